"""Attention as generation does it: a prefill, then one query at a time over a growing key-value cache."""

import torch
from torch import Tensor

from .cache import KVCache
from .registry import Capabilities, register
from .sdpa import sdpa
from .validation import check_counts_known


@register("decode", Capabilities(masks=frozenset(), backward=False))
def decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,  # noqa: ARG001  # None, by the capabilities
    causal: bool,
    scale: float | None,
) -> Tensor:
    """``sdpa`` over a ``KVCache``: the first half of the queries together, then each alone; see ``Kernel.__call__``.

    With ``causal`` each of those adds the key and value of its own token first, and so sees none of the future; without
    it the cache holds all from the start. A step is given views of the cache. What is said of NaN at ``sdpa`` holds
    among the first half; a later key or value does not reach an earlier step at all.

    Source: Pope et al. 2022, "Efficiently Scaling Transformer Inference", section 2.1 (prefill and decode).

    """
    check_counts_known("decode", q, k)
    (batch, n_kv_heads, n_keys, head_size), n_queries, value_size = k.shape, q.shape[2], v.shape[3]
    if 0 in (q.numel(), k.numel(), v.numel()):
        return q.new_zeros(*q.shape[:3], value_size)
    n_first = n_queries // 2
    cache = KVCache(batch, n_kv_heads, n_keys, head_size, value_size=value_size, dtype=q.dtype, device=q.device)
    known = n_keys - n_queries + n_first if causal else n_keys  # keys that the first half sees
    cache.append(k[:, :, :known], v[:, :, :known])
    parts = []
    if n_first:
        first = q[:, :, :n_first]
        parts.append(sdpa.function(first, cache.keys, cache.values, mask=None, causal=causal, scale=scale))
    for step in range(n_first, n_queries):
        if causal:
            token = slice(cache.length, cache.length + 1)
            cache.append(k[:, :, token], v[:, :, token])
        query = q[:, :, step : step + 1]
        parts.append(sdpa.function(query, cache.keys, cache.values, mask=None, causal=False, scale=scale))
    return torch.cat(parts, dim=2)
