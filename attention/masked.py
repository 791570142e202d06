"""The attention formula with masks, causal attention, windows, caps and sinks; a row that sees no key is zero."""

import torch
from torch import Tensor

from .registry import Capabilities, register
from .scoring import cap, softmax
from .shapes import band, regroup


@register("masked", Capabilities(window=True, softcap=True, sinks=True, traced=True))
def masked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    causal: bool,
    scale: float | None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """``softmax(q k^T / sqrt(D) + mask) v``, and zero where a row sees no key; shapes as ``Kernel.__call__``.

    NaN or inf in v makes every row that sees its key NaN, and changes neither the other rows nor their gradients.
    Without a mask, and where every row sees every key, NaN and inf act as in the formula.
    """
    n_heads, n_kv_heads = q.shape[1], k.shape[1]
    if scale is None:
        scale = q.shape[-1] ** -0.5
    scores = cap(regroup(q * scale, n_kv_heads) @ k.transpose(-2, -1), softcap)  # (B, Hkv, G * Tq, Tk)
    visible = band(q.shape[-2], k.shape[-2], q.device, causal=causal, window=window)  # (Tq, Tk)
    if mask is None and visible is None:
        weights = regroup(softmax(regroup(scores, n_heads), sinks), n_kv_heads)
        return regroup(weights @ v, n_heads)  # (B, Hq, Tq, Dv)

    # 0 * NaN is NaN, so a weight of zero does not hide NaN or inf in v. They move to the scores, which can be hidden.
    scores = scores + (v.detach() * 0.0).sum(dim=-1).unsqueeze(-2)  # plus (B, Hkv, 1, Tk), zero or NaN
    v = v.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    scores = regroup(scores, n_heads)  # (B, Hq, Tq, Tk)
    if mask is not None:
        if mask.dtype == torch.bool:
            attended = mask
        else:
            # The dtype's lowest value plus a negative score would be -inf, which hides a key that should stay visible.
            scores = (scores + mask.to(scores.dtype)).clamp(min=torch.finfo(scores.dtype).min)
            attended = mask.to(scores.dtype) != -torch.inf
        visible = attended if visible is None else visible & attended  # broadcastable to (B, Hq, Tq, Tk)
    assert visible is not None  # there is a mask, or a band, or both
    # A row of -inf makes softmax NaN, forward and backward. Neutral scores before it keep the gradients finite, and a
    # zero result after it keeps the row out of them.
    blind = ~visible.any(dim=-1, keepdim=True)  # broadcastable to (B, Hq, Tq, 1)
    scores = scores.masked_fill(~visible, -torch.inf).masked_fill(blind, 0.0)
    weights = softmax(scores, sinks)  # (B, Hq, Tq, Tk)
    return regroup(regroup(weights, n_kv_heads) @ v, n_heads).masked_fill(blind, 0.0)  # (B, Hq, Tq, Dv)
