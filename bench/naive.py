"""The yardstick, frozen: naive attention in whatever dtype it is given, whose error says how much error is normal.

It lives with the instrument and not in ``attention/``, so that no change to what is measured can loosen the gate.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Attend(Protocol):
    """Attention as the yardstick and the oracle offer it; shapes as ``attention.Kernel.__call__``."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, window: int | None = None
    ) -> Tensor: ...


def naive_attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, window: int | None = None
) -> Tensor:
    """Score, scale, mask, softmax, weigh, each step rounded to q's dtype: (B, Hq, Tq, Dv)."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = (q / q.shape[-1] ** 0.5) @ k.transpose(-2, -1)  # (B, Hq, Tq, Tk)
    visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device)
    if causal:
        visible = visible.tril(k.shape[-2] - q.shape[-2])
    if window is not None:
        own = k.shape[-2] - q.shape[-2]
        visible = visible.tril(own + window - 1).triu(own - window + 1)
    if mask is not None and mask.dtype == torch.bool:
        visible = visible & mask
    elif mask is not None:
        scores = scores + mask.to(q.dtype)
    scores = scores.masked_fill(~visible, -torch.inf)
    unseeing = (scores == -torch.inf).all(dim=-1, keepdim=True)
    weights = scores.masked_fill(unseeing, 0.0).softmax(dim=-1).masked_fill(unseeing, 0.0)
    out: Tensor = weights @ v
    return out


def naive_multihead(
    x: Tensor,
    parameters: Mapping[str, Tensor],
    attend: Attend,
    *,
    n_heads: int,
    n_kv_heads: int,
    mask: Tensor | None,
    causal: bool,
) -> Tensor:
    """Multi-head self-attention of x (B, T, E) from the parameters of ``torch.nn.MultiheadAttention``: (B, T, E)."""
    batch, tokens, d_model = x.shape
    kv_size = d_model // n_heads * n_kv_heads
    projected = x @ parameters["in_proj_weight"].T + parameters["in_proj_bias"]
    q, k, v = (
        part.reshape(batch, tokens, heads, d_model // n_heads).transpose(1, 2)  # (B, heads, T, D)
        for part, heads in zip(
            projected.split((d_model, kv_size, kv_size), dim=-1), (n_heads, n_kv_heads, n_kv_heads), strict=True
        )
    )
    out = attend(q, k, v, mask=mask, causal=causal).transpose(1, 2).reshape(batch, tokens, d_model)
    return out @ parameters["out_proj.weight"].T + parameters["out_proj.bias"]
