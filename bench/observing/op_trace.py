"""Watches a call op by op: what ran, in order, and the bytes alive after each op."""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..plain.execution import Pass, Step


class EagerMode(TorchDispatchMode):
    """A dispatch mode that does not disturb the compiler, as far as that can be had.

    It is not for compiled code: under a dispatch mode, torch.compile runs a function eagerly from then on.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise the first op of a run imports all of torch._dynamo, which takes a second

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True  # newer versions of torch ask it: compiled code is to stay compiled

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types


class OpTrace(EagerMode):
    """Notes the ops that run while it is active, and the storages that they create, for as long as these live.

    The bytes are exact for tensors. What a kernel takes from the allocator inside of one op is not seen, which keeps
    them the same on every machine. A storage that is resized counts with its first size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.written: set[int] = set()  # the addresses of storages that an op wrote to in place
        self._ended = self._live_bytes = self._peak_bytes = self._allocated_bytes = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        for tensor in tensors_in(out):
            storage = tensor.untyped_storage()
            if storage not in self._known:
                # A storage that came in by an argument is not the call's own; this is slow, so it is asked last.
                came_in = any(storage is given.untyped_storage() for given in tensors_in((args, kwargs)))
                self._take_note(storage, 0 if came_in else storage.nbytes())
        if func._schema.is_mutable and torch.Tag.inplace_view not in func.tags:  # noqa: SLF001  # it has no public name
            self.written.update(t.untyped_storage().data_ptr() for t in tensors_in(_written_by(func, args, kwargs)))
        self.steps.append(Step(str(func.overloadpacket), self._live_bytes))
        return out

    @property
    def live_bytes(self) -> int:
        """The bytes of the storages that were created and are still alive."""
        return self._live_bytes

    @contextmanager
    def watching(self) -> Iterator[None]:
        with self:
            yield

    def end_pass(self) -> Pass:
        """Return what ran since the last pass ended, or since the beginning; what is alive stays so."""
        ops = Counter(step.op for step in self.steps[self._ended :])
        done = Pass(dict(sorted(ops.items())), self._peak_bytes, self._allocated_bytes)
        self._ended, self._peak_bytes, self._allocated_bytes = len(self.steps), self._live_bytes, 0
        return done

    def _take_note(self, storage: torch.UntypedStorage, size: int) -> None:
        self._known.add(storage)
        if size:
            self._allocated_bytes += size
            self._live_bytes += size
            self._peak_bytes = max(self._peak_bytes, self._live_bytes)
            weakref.finalize(storage, self._free, size).atexit = False

    def _free(self, size: int) -> None:
        self._live_bytes -= size


def _written_by(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    arguments = func._schema.arguments  # noqa: SLF001  # it has no public name
    given = dict(zip((one.name for one in arguments), args, strict=False)) | kwargs
    return [given.get(one.name) for one in arguments if one.alias_info is not None and one.alias_info.is_write]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Return the tensors in what an op was given, or gave."""
    if isinstance(value, Tensor):  # the usual case, without a walk
        yield value
    else:
        yield from (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
