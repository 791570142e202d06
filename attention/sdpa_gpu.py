"""PyTorch's fused attention on CUDA, corrected where PyTorch gets it wrong there."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .operators import math

ALIGNMENT = 16  # bytes, of each row that a fused kernel reads
CUDNN_DTYPES = (torch.float16, torch.bfloat16)  # for which PyTorch may choose cuDNN


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
    """``scaled_dot_product_attention`` for what ``sdpa`` has made of its request; shapes as ``Kernel.__call__``.

    Corrected here, as seen with torch 2.11 on an H100: a row of which a float mask puts all a million or more below
    zero (``lowered``) becomes zero, so it takes the formula; a row that sees no key becomes the mean of the values in
    half precision; a row that begins at an address that the kernel cannot read at once, and a mask of one value for all
    keys, raise.

    Raises:
        NotImplementedError: a lowered row, and PyTorch's math backend is not enabled.

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
            f"no fused backend on {q.device.type} attends right where a float mask lowers all that a row sees: enable "
            "PyTorch's math backend, or call 'masked'"
        )
    return math(q, k, v, attn_mask=mask, is_causal=False, scale=scale, enable_gqa=grouped)


def _spread(mask: Tensor, n_keys: int) -> Tensor:
    """Give the mask a value for each key, one behind the other, without which the fused kernel raises."""
    if mask.shape[-1] == n_keys and mask.stride(-1) == 1:
        return mask
    return mask.expand(*mask.shape[:-1], n_keys).clone(memory_format=torch.contiguous_format)


def _unseeing_zeroed(out: Tensor, mask: Tensor) -> Tensor:
    """Zero the rows that see no key, and so their gradients: cuDNN gives them the mean of the values."""
    seen = mask if mask.dtype == torch.bool else mask > -torch.inf
    return out.masked_fill(~seen.any(dim=-1, keepdim=True), 0.0)


def _aligned(x: Tensor) -> Tensor:
    """Copy a tensor whose rows do not begin at whole multiples of what a fused kernel reads at once."""
    if torch.compiler.is_compiling():
        return x  # the compiler lays tensors out itself
    begins = x.storage_offset(), *x.stride()[:-1]
    copied = any(step * x.itemsize % ALIGNMENT for step in begins)
    return x.clone(memory_format=torch.contiguous_format) if copied else x
