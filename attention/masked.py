"""The formula with a mask, causal attention, and rows that see nothing."""

import torch
from torch import Tensor

from .registry import register
from .shapes import causal_mask, regroup


@register("masked")
def masked(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    """``softmax(q k^T / sqrt(D) + mask) v``, rows that see no key zero; see ``Kernel.__call__`` for the shapes.

    With a mask, NaN and inf in v make every row that sees their key NaN and leave the other rows and their gradients
    alone. With ``causal`` alone they reach earlier rows too: the last query sees every key, so the result is spoilt in
    any case, and looking for them would cost every causal call.
    """
    n_heads, n_kv_heads = q.shape[1], k.shape[1]
    if scale is None:
        scale = q.shape[-1] ** -0.5
    scores = regroup(q * scale, n_kv_heads) @ k.transpose(-2, -1)  # (B, Hkv, G * Tq, Tk)
    hidden = ~causal_mask(q.shape[-2], k.shape[-2], q.device) if causal else None  # (Tq, Tk)
    if mask is None:
        scores = regroup(scores, n_heads)  # (B, Hq, Tq, Tk)
        weights = (scores if hidden is None else scores.masked_fill(hidden, -torch.inf)).softmax(dim=-1)
        return regroup(regroup(weights, n_kv_heads) @ v, n_heads)  # (B, Hq, Tq, Dv)

    # A weight of zero does not silence NaN or inf in v, so they move to the scores, which the mask can silence.
    scores += (v.detach() * 0.0).sum(dim=-1).unsqueeze(-2)  # (B, Hkv, 1, Tk), zero or NaN
    v = v.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    scores = regroup(scores, n_heads)  # (B, Hq, Tq, Tk)
    if mask.dtype == torch.bool:
        masked_out = ~mask
    else:
        mask = mask.to(scores.dtype)
        scores = scores + mask
        masked_out = mask == -torch.inf
    hidden = masked_out if hidden is None else hidden | masked_out  # broadcastable to (B, Hq, Tq, Tk)
    # A row of -inf makes softmax NaN, forward and backward. Neutral scores before it keep the gradients finite, and a
    # zero result after it keeps the row out of them.
    unseeing = hidden.all(dim=-1, keepdim=True)  # broadcastable to (B, Hq, Tq, 1)
    weights = scores.masked_fill(hidden, -torch.inf).masked_fill(unseeing, 0.0).softmax(dim=-1)  # (B, Hq, Tq, Tk)
    return regroup(regroup(weights, n_kv_heads) @ v, n_heads).masked_fill(unseeing, 0.0)  # (B, Hq, Tq, Dv)
