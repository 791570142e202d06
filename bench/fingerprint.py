"""What a call executed, told without a clock: aten ops with counts, SDPA backend, peak of live bytes."""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .evidence import Fingerprint

# Which backend of scaled_dot_product_attention an aten op belongs to. The formula's op is the last resort: SDPA takes
# it in silence when no fused backend accepts the inputs.
BACKENDS = {
    "aten._scaled_dot_product_flash_attention_for_cpu": "flash",
    "aten._scaled_dot_product_flash_attention": "flash",
    "aten._scaled_dot_product_efficient_attention": "efficient",
    "aten._scaled_dot_product_cudnn_attention": "cudnn",
    "aten._safe_softmax": "math",
}


class _Recorder(TorchDispatchMode):
    """Counts the ops that run while it is active, and the bytes of the storages that they create and that live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.ops: Counter[str] = Counter()
        self.live_bytes = self.peak_bytes = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let compiled code run as it is, and record what it calls, rather than keep torch from running it."""
        return True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._known.add(leaf.untyped_storage())  # inputs are not the call's own
        out = func(*args, **kwargs)
        self.ops[str(func.overloadpacket)] += 1
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live_bytes -= size


def fingerprint(call: Callable[[], object]) -> Fingerprint:
    """Run the call once, untimed, and record what it executed, the backward pass included."""
    with _Recorder() as recorder:
        call()
    backend = next((name for op, name in BACKENDS.items() if op in recorder.ops), None)
    return Fingerprint(dict(sorted(recorder.ops.items())), backend, recorder.peak_bytes)
