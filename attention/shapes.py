"""Helpers of every explicit kernel: query heads folded by their key head, and the band of keys a query sees."""

import torch
from torch import Tensor


def under_jit_trace() -> bool:
    """Whether ``torch.jit.trace`` records the call; decisions for these sizes are then replayed for all others."""
    return not torch.compiler.is_compiling() and torch._C._is_tracing()  # noqa: SLF001  # torch.jit.is_tracing has no type


def regroup(x: Tensor, n_heads: int) -> Tensor:
    """Fold or unfold heads: (B, H, T, D) -> (B, n_heads, H * T / n_heads, D), without copying a contiguous x.

    Query heads that share a key head lie side by side, so folding them into one head's rows lets grouped queries
    use one matrix product, with no repeated keys.
    """
    batch, heads, tokens, size = x.shape
    return x if heads == n_heads else x.reshape(batch, n_heads, heads * tokens // n_heads, size)


def causal_mask(n_queries: int, n_keys: int, device: torch.device) -> Tensor:
    """Which keys each query sees, aligned so that the last query sees every key: bool (Tq, Tk)."""
    return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril(n_keys - n_queries)


def band(
    n_queries: int, n_keys: int, device: torch.device, *, causal: bool, window: int | None, offset: int | None = None
) -> Tensor | None:
    """Which keys each query sees by causal and window together: bool (Tq, Tk), or None where it is every key.

    ``offset`` is the position of the first query less that of the first key; None means ``Tk - Tq``, the alignment in
    which the last query sees every key under ``causal``. A tile of a larger problem has an offset of its own.
    """
    offset = n_keys - n_queries if offset is None else offset
    newest = offset if causal else None if window is None else offset + window - 1  # the diagonals that bound the band
    oldest = None if window is None else offset - window + 1
    every = (newest is None or newest >= n_keys - 1) and (oldest is None or oldest <= 1 - n_queries)
    if every and not under_jit_trace():  # a trace serves other numbers of tokens, too
        return None
    seen = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    if newest is not None:
        seen = seen.tril(newest)
    return seen if oldest is None else seen.triu(oldest)
