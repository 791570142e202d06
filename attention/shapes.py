"""Two shapes every explicit kernel needs: grouped heads folded into rows, and the causal triangle."""

import torch
from torch import Tensor


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
