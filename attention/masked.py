"""The formula with a mask, causal attention, and rows that see nothing."""

import torch
from torch import Tensor

from .registry import register
from .shapes import causal_mask, regroup


@register("masked")
def masked(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    """``softmax(q k^T / sqrt(D) + mask) v``, rows that see no key zero; see ``Kernel.__call__`` for the shapes."""
    n_heads, n_kv_heads = q.shape[1], k.shape[1]
    if scale is None:
        scale = q.shape[-1] ** -0.5
    scores = regroup(q * scale, n_kv_heads) @ k.transpose(-2, -1)  # (B, Hkv, G * Tq, Tk)
    scores = regroup(scores, n_heads)  # (B, Hq, Tq, Tk)
    if causal:
        scores = scores.masked_fill(~causal_mask(q.shape[-2], k.shape[-2], q.device), -torch.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.to(scores.dtype)
        # A row of -inf makes softmax NaN, forward and backward. Neutral scores before it keep the gradients finite,
        # and zero weights after it keep the row out of the result.
        unseeing = (scores == -torch.inf).all(dim=-1, keepdim=True)  # (B, Hq, Tq, 1)
        weights = scores.masked_fill(unseeing, 0.0).softmax(dim=-1).masked_fill(unseeing, 0.0)
    else:
        weights = scores.softmax(dim=-1)  # (B, Hq, Tq, Tk)
    return regroup(regroup(weights, n_kv_heads) @ v, n_heads)  # (B, Hq, Tq, Dv)
