"""How alike two tensors are."""

import torch
from torch import Tensor


def same_bits(one: Tensor, another: Tensor) -> bool:
    """Whether two tensors hold the same, NaNs too; zeros are the same whatever their sign."""
    if one.shape != another.shape or one.dtype != another.dtype:
        return False
    return torch.equal(one, another) or torch.equal(_bytes(one), _bytes(another))


def distance(one: Tensor, another: Tensor) -> float:
    """Return the largest difference; infinite where one is a number and the other is not, or the shapes differ."""
    if one.shape != another.shape:
        return float("inf")
    same = (one == another) | (one.isnan() & another.isnan())
    apart = (one.double() - another.double()).abs().nan_to_num(nan=float("inf")).masked_fill(same, 0.0)
    return float(apart.max()) if apart.numel() else 0.0


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
