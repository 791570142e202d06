"""How far two tensors differ, and the absolute caps on the error of a result."""

from collections.abc import Mapping

import torch
from torch import Tensor

Results = Mapping[str, Tensor]  # output and gradients by name: out, dq, ...

# Absolute caps for standard normal inputs: (output, gradients). They grow with the oracle's values where these exceed
# 1, and with larger scores, whose rounding errors are larger.
CAPS = {
    torch.float32: (1e-5, 1e-4),
    torch.bfloat16: (4e-2, 4e-2),
    torch.float16: (5e-3, 5e-3),
}


def same_bits(one: Tensor, another: Tensor) -> bool:
    """Whether two tensors hold the same values, NaNs included; without NaNs, 0.0 and -0.0 are the same."""
    if one.shape != another.shape or one.dtype != another.dtype:
        return False
    return torch.equal(one, another) or torch.equal(_bytes(one), _bytes(another))


def unlike(expected: Results, seen: Results | None) -> tuple[str, ...]:
    """Name the results that differ from those seen, bit for bit; all of them, if none were seen."""
    return tuple(name for name, t in expected.items() if seen is None or not same_bits(seen[name].detach(), t))


def distance(one: Tensor, another: Tensor) -> float:
    """Return the largest difference; infinite where only one is NaN, or if the shapes differ."""
    if one.shape != another.shape:
        return float("inf")
    same = (one == another) | (one.isnan() & another.isnan())
    apart = (one.double() - another.double()).abs().nan_to_num(nan=float("inf")).masked_fill(same, 0.0)
    return float(apart.max()) if apart.numel() else 0.0


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
