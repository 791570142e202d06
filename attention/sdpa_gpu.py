"""PyTorch's fused attention on CUDA, corrected where PyTorch gets it wrong there."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .operators import math

ALIGNMENT = 16  # bytes: a fused kernel reads rows that begin at multiples of this
CUDNN_DTYPES = (torch.float16, torch.bfloat16)  # dtypes for which PyTorch may choose cuDNN


def attend_on_gpu(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    causal: bool,
    scale: float | None,
    grouped: bool,
    lowered: bool,
) -> Tensor:
    """``scaled_dot_product_attention`` on a request that ``sdpa`` has prepared; shapes as ``Kernel.__call__``.

    Corrects what torch 2.11 does on an H100. If a float mask lowers every score of a row by a million or more
    (``lowered``), PyTorch's result is zero: the formula is used instead. In half precision a row that sees no key
    becomes the mean of the values: it is set to zero. Rows that are not aligned, and a mask with one value for all
    keys, raise: they are copied.

    Raises:
        NotImplementedError: a row is lowered, and PyTorch's math backend is disabled.

    """
    if mask is not None:
        mask = _spread(mask, k.shape[2])
        if lowered:
            return _by_formula(q, k, v, mask, scale=scale, grouped=grouped)
    q, k, v = _aligned(q), _aligned(k), _aligned(v)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped)
    return out if mask is None or q.dtype not in CUDNN_DTYPES else _unseeing_zeroed(out, mask)


def _by_formula(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, *, scale: float | None, grouped: bool) -> Tensor:
    if not torch.backends.cuda.math_sdp_enabled():
        raise NotImplementedError(
            f"no fused backend on {q.device.type} is right where a float mask lowers every score of a row: enable "
            "PyTorch's math backend, or call 'masked'"
        )
    return math(q, k, v, attn_mask=mask, is_causal=False, scale=scale, enable_gqa=grouped)


def _spread(mask: Tensor, n_keys: int) -> Tensor:
    """Expand the mask to one value for each key, contiguous in memory: the fused kernel raises otherwise."""
    if mask.shape[-1] == n_keys and mask.stride(-1) == 1:
        return mask
    return mask.expand(*mask.shape[:-1], n_keys).clone(memory_format=torch.contiguous_format)


def _unseeing_zeroed(out: Tensor, mask: Tensor) -> Tensor:
    """Set rows that see no key to zero, which zeroes their gradients too; cuDNN gives them the mean of the values."""
    seen = mask if mask.dtype == torch.bool else mask > -torch.inf
    return out.masked_fill(~seen.any(dim=-1, keepdim=True), 0.0)


def _aligned(x: Tensor) -> Tensor:
    """Copy a tensor whose rows do not begin at multiples of ``ALIGNMENT``."""
    if torch.compiler.is_compiling():
        return x  # the compiler lays tensors out itself
    begins = x.storage_offset(), *x.stride()[:-1]
    copied = any(step * x.itemsize % ALIGNMENT for step in begins)
    return x.clone(memory_format=torch.contiguous_format) if copied else x
