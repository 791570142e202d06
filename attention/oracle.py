"""The float64 oracle that every kernel is compared with."""

import torch
from torch import Tensor

from .validation import check_inputs, real


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attention in float64, step by step, differentiable; arguments, shapes and errors as ``Kernel.__call__``.

    It shares no arithmetic with the kernels: keys are repeated for grouped queries, visibility is one bool tensor, and
    softmax is written out.
    """
    check_inputs(q, k, v, mask, causal=causal, window=window, softcap=softcap, sinks=sinks)
    group = q.shape[1] // k.shape[1] if k.shape[1] else 1
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    scale = q.shape[-1] ** -0.5 if scale is None else real(scale)
    k, v = k.repeat_interleave(group, dim=1).double(), v.repeat_interleave(group, dim=1).double()

    scores = torch.einsum("bhqd,bhkd->bhqk", q.double(), k) * scale  # (B, Hq, Tq, Tk)
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    visible = torch.ones_like(scores, dtype=torch.bool)
    if mask is not None and mask.dtype == torch.bool:
        visible = visible & mask
    elif mask is not None:
        bias = mask.to(q.dtype).double()
        visible = visible & (bias != -torch.inf)
        scores = scores + bias.masked_fill(bias == -torch.inf, 0.0)
    query, key = torch.arange(n_queries, device=q.device), torch.arange(n_keys, device=q.device)
    distance = query[:, None] + (n_keys - n_queries) - key  # (Tq, Tk), negative for keys of the future
    if causal:
        visible = visible & (distance >= 0)
    if window is not None:
        visible = visible & (distance.abs() < window)

    if n_keys == 0:
        return torch.einsum("bhqk,bhkd->bhqd", scores, v)
    highest = scores.detach().masked_fill(~visible, -torch.inf).amax(dim=-1, keepdim=True)  # (B, Hq, Tq, 1)
    if sinks is not None:
        sink = sinks.double()[:, None, None]  # (Hq, 1, 1)
        highest = torch.maximum(highest, sink.detach())
    highest = highest.masked_fill(highest == -torch.inf, 0.0)
    terms = (scores - highest).masked_fill(~visible, -torch.inf).exp()  # (B, Hq, Tq, Tk), zero where invisible
    total = terms.sum(dim=-1, keepdim=True)  # (B, Hq, Tq, 1), zero in a row that sees nothing
    if sinks is not None:
        total = total + (sink - highest).exp()
    weights = terms / total.masked_fill(total == 0.0, 1.0)
    return torch.einsum("bhqk,bhkd->bhqd", weights, v)  # (B, Hq, Tq, Dv)
