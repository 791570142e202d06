"""Other contents for the inputs of a case, in the same memory, and other sizes in the same tensors."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ..observing.tolerance import same_bits
from .workload import Workload


class OtherContents:
    """A context in which every tensor that a side is given holds other values; it can be entered again.

    The values are written to the memory behind the tensors, so neither their identity nor their version changes. What a
    side wrote to its inputs stays there, to be found by a comparison with a copy.
    """

    def __init__(self, workload: Workload) -> None:
        self._tensors = [_written(t.data) for t in workload.tensors]
        self._own = [t.clone() for t in self._tensors]
        self._others = [other(t) for t in self._tensors]

    def __enter__(self) -> None:
        self._replace(self._own, self._others)

    def __exit__(self, *_: object) -> None:
        self._replace(self._others, self._own)

    def _replace(self, old: list[Tensor], new: list[Tensor]) -> None:
        for tensor, before, after in zip(self._tensors, old, new, strict=True):
            if same_bits(tensor, before):
                tensor.copy_(after)


def with_others(workload: Workload, names: frozenset[str]) -> Workload:
    """Return the work with other values in some of its tensors: ``q``, ``x``, ``mask``, ``upstream``."""

    def chosen(name: str, tensor: Tensor) -> Tensor:
        if name not in names:
            return tensor
        changed = other(_written(tensor.data)).expand(tensor.shape)
        return changed.requires_grad_(tensor.requires_grad)

    return Workload(
        workload.case,
        {name: chosen(name, t) for name, t in workload.inputs.items()},
        None if workload.mask is None else chosen("mask", workload.mask),
        chosen("upstream", workload.upstream),
        {name: chosen(name, t) for name, t in workload.frozen.items()},
    )


def other(tensor: Tensor) -> Tensor:
    """Return other values of the same kind: the tensor's in reverse order, or if that is the same, with a slope added.

    If q and k are reversed, so are their scores, which stay as large and as well conditioned as before.
    """
    changed = tensor.flip(tuple(range(tensor.dim())))
    if not torch.equal(changed, tensor) or not tensor.numel():
        return changed
    steps = torch.arange(1, tensor.numel() + 1, device=tensor.device).view(tensor.shape)
    if tensor.is_floating_point():
        return tensor + (steps / tensor.numel()).to(tensor.dtype)
    return tensor ^ (steps % 2).to(tensor.dtype)


@contextmanager
def resized(contents: Mapping[str, Tensor], workload: Workload) -> Iterator[None]:
    """Give some of the input tensors, by name, another size; they stay the same objects."""
    tensors = {name: t for name in contents if (t := workload.inputs.get(name, workload.mask)) is not None}
    own = {name: t.data for name, t in tensors.items()}
    try:
        for name, tensor in tensors.items():
            tensor.data = contents[name]
        yield
    finally:
        for name, tensor in tensors.items():
            tensor.data = own[name]


def first_item(workload: Workload) -> dict[str, Tensor]:
    """Return what the inputs and the mask hold for the first item alone, by name."""
    batch = workload.case.shape.batch
    # A mask of fewer dimensions than four has no batch.
    return {n: t[:1] for n, t in _sized(workload).items() if t.shape[0] == batch and (n != "mask" or t.dim() == 4)}


def longer(workload: Workload, tokens: int) -> dict[str, Tensor]:
    """Return inputs and mask with so many more tokens, which repeat the first ones; a single query stays single."""
    single = ("q", "x") if workload.case.shape.queries == 1 else ()
    return {
        name: _longer_mask(t, tokens) if name == "mask" else t if name in single else _extended(t, -2, tokens)
        for name, t in _sized(workload).items()
    }


def _longer_mask(mask: Tensor, tokens: int) -> Tensor:
    """Extend queries and keys; a mask of one dimension has keys alone, and a size of 1 stands for any."""
    for dim in range(-min(mask.dim(), 2), 0):
        if mask.shape[dim] > 1:
            mask = _extended(mask, dim, tokens)
    return mask


def _sized(workload: Workload) -> dict[str, Tensor]:
    """Return the data of the inputs whose sizes are those of the case, and not a module's."""
    found = {name: t.data for name, t in workload.inputs.items() if name in ("q", "k", "v", "x", "mask")}
    return found if workload.mask is None else found | {"mask": workload.mask.data}


def _extended(tensor: Tensor, dim: int, more: int) -> Tensor:
    size = tensor.shape[dim]
    return tensor.index_select(dim, torch.arange(size + more, device=tensor.device) % size)


def _written(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that has memory of its own: one item of each dimension that is expanded."""
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dim] > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor
