"""Fills uninitialised memory, so that a result that depends on it shows."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .op_trace import EagerMode, tensors_in

_TORCHS_OWN = ("aten", "prims", "prim")  # namespaces of operators whose parts a dispatch mode sees
_EMPTY = frozenset(
    f"aten::{name}"
    for name in ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")
)
_RESIZING = frozenset(f"aten::{name}" for name in ("resize_", "resize_as_", "resize"))


@dataclass(frozen=True)
class Filling:
    """What fresh memory holds, by the kind of its dtype; ``integer`` None is the largest of the dtype."""

    floating: float
    integer: int | None
    boolean: bool

    def of(self, dtype: torch.dtype) -> float | bool:
        if dtype.is_floating_point or dtype.is_complex:
            return self.floating
        if dtype == torch.bool:
            return self.boolean
        return torch.iinfo(dtype).max if self.integer is None else self.integer


NAN = Filling(float("nan"), None, boolean=True)
LARGE = Filling(1e4, 1, boolean=False)  # not NaN, for kernels that replace NaN; within the range of every dtype
ZERO = Filling(0.0, 0, boolean=False)


class Poison(EagerMode):
    """Fills what ``torch.empty`` and its like hand out while it is active, in custom operators too."""

    def __init__(self, filling: Filling) -> None:
        super().__init__()
        self.filled = 0  # tensors so far
        self._filling = filling

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):  # noqa: SLF001  # torch has no other name for it
            return func(*args, **kwargs)
        name = func.name().partition(".")[0]
        if func.namespace not in _TORCHS_OWN:
            device = next((t.device for t in tensors_in((args, kwargs))), None)
            if device is not None:
                with self:
                    return func.redispatch(_kernel_of(device), *args, **kwargs)
        known = args[0].untyped_storage().nbytes() if name in _RESIZING else 0
        out = func(*args, **kwargs)
        if name in _EMPTY:
            self._fill(out)
        elif name in _RESIZING and isinstance(out, Tensor):
            storage = out.untyped_storage()
            if storage.nbytes() > known:
                whole = torch.empty(0, dtype=out.dtype, device=out.device).set_(storage)
                self._fill(whole[-(-known // out.itemsize) :])
        return out

    def _fill(self, tensor: Tensor) -> None:
        if tensor.layout is torch.strided and tensor.numel():
            self.filled += 1
            tensor.fill_(self._filling.of(tensor.dtype))


def _kernel_of(device: torch.device) -> Any:
    """Return the dispatch keys that lead straight to an operator's code for a device."""
    keys: Any = torch._C  # noqa: SLF001  # there is no public way
    return keys.DispatchKeySet(getattr(keys.DispatchKey, keys._dispatch_key_for_device(device.type)))  # noqa: SLF001


def can_run_eagerly() -> bool:
    """Whether this torch can run compiled code eagerly for once."""
    return hasattr(torch.compiler, "set_stance")


@contextmanager
def eagerly() -> Iterator[None]:
    """Run what is compiled as its source says, and leave it compiled."""
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        warnings.simplefilter("ignore")  # torch warns of what is slow so
        yield
