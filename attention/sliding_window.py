"""Windowed attention that computes the band of visible keys alone: work and memory grow with T x window."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .masked import masked
from .registry import Capabilities, register
from .shapes import band
from .validation import check_counts_known

BLOCK = 64  # queries in a block, at least: a smaller matrix product is inefficient


@register("sliding_window", Capabilities(masks=frozenset(), window=True, windowless=False, softcap=True, sinks=True))
def sliding_window(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,  # noqa: ARG001  # None, by the capabilities
    causal: bool,
    scale: float | None,
    window: int | None = None,
    **scoring: Any,
) -> Tensor:
    """``softmax(q k^T / sqrt(D)) v`` over the keys within a window; see ``Kernel.__call__`` for the shapes.

    Queries are cut into blocks, the keys that a block can see are gathered, and each block is one item of a batch for
    the formula. A block is as long as the window, so that a third of the scores or more are visible ones.

    Source: Beltagy et al. 2020, "Longformer", section 3.1 (the pattern, and computing it in blocks).

    """
    assert window is not None  # by the capabilities
    check_counts_known("sliding_window", q, k)
    (batch, _, n_queries, _), (_, n_kv_heads, n_keys, _) = q.shape, k.shape
    causal = causal or n_queries == 1  # the last query is aligned with the last key, so all its keys are past
    window = min(window, max(n_queries, n_keys, 1))  # beyond that it hides nothing
    block = min(max(window, BLOCK), max(n_queries, 1))  # queries
    span = block + (window - 1) * (1 if causal else 2)  # keys that they see
    n_blocks = max(1, -(-n_queries // block))
    first = n_keys - n_queries - (window - 1)  # position of the first block's first key; below zero there is none
    length = (n_blocks - 1) * block + span  # keys from there to the last block's last

    def gather(x: Tensor) -> Tensor:  # (B, Hkv, Tk, D) -> (B * n_blocks, Hkv, span, D)
        x = F.pad(x, (0, 0, -first, length + first - n_keys))  # a negative size crops
        x = x.unfold(2, span, block).permute(0, 2, 1, 4, 3)  # (B, n_blocks, Hkv, span, D)
        return x.reshape(batch * n_blocks, n_kv_heads, span, x.shape[-1])

    queries = F.pad(q, (0, 0, 0, n_blocks * block - n_queries)).unflatten(2, (n_blocks, block)).transpose(1, 2)
    position = first + torch.arange(length, device=q.device).unfold(0, span, block)  # (n_blocks, span)
    seen = ((position >= 0) & (position < n_keys))[:, None, None, :]  # (n_blocks, 1, 1, span)
    near = band(block, span, q.device, causal=causal, window=window, offset=window - 1)  # the same in each block
    seen = seen if near is None else seen & near
    out = masked.function(
        queries.flatten(0, 1),  # (B * n_blocks, Hq, block, D)
        gather(k),
        gather(v),
        mask=seen.repeat(batch, 1, 1, 1),
        causal=False,
        scale=scale,
        **scoring,
    )
    rows: Tensor = out.unflatten(0, (batch, n_blocks)).transpose(1, 2).flatten(2, 3)  # (B, Hq, n_blocks * block, Dv)
    return rows[:, :, :n_queries]
