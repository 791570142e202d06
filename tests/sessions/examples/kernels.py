"""Attention that is no function of dense q, k, v: what people write, in plain PyTorch."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


def packed(q: Tensor, k: Tensor, v: Tensor, starts: list[int]) -> Tensor:
    """Attend within each of several sequences of different lengths, packed one after the other: (T, H, D)."""
    parts = []
    for start, end in pairwise(starts):
        a, b, c = (t[start:end].transpose(0, 1) for t in (q, k, v))  # (H, t, D)
        parts.append(F.scaled_dot_product_attention(a, b, c, is_causal=True).transpose(0, 1))
    return torch.cat(parts)


def paged(q: Tensor, k_pages: Tensor, v_pages: Tensor, table: Tensor, length: int) -> Tensor:
    """Attend from one query (H, 1, D) to keys in pages (P, size, H, D), which ``table`` names in their order."""
    k, v = (pages[table].flatten(0, 1)[:length].transpose(0, 1) for pages in (k_pages, v_pages))  # (H, length, D)
    return F.scaled_dot_product_attention(q, k, v)


def latent(q: Tensor, compressed: Tensor, up_k: Tensor, up_v: Tensor) -> Tensor:
    """Attend to keys and values that are kept compressed (T, C), as multi-head latent attention does: (H, t, D).

    ``up_k`` and ``up_v`` (H, C, D) are absorbed into query and output, so that keys are never expanded.
    """
    scores = (q @ up_k.transpose(-2, -1)) @ compressed.T * q.shape[-1] ** -0.5  # (H, t, T)
    out: Tensor = (scores.softmax(dim=-1) @ compressed) @ up_v
    return out


def linear(q: Tensor, k: Tensor, v: Tensor, chunk: int = 64) -> Tensor:
    """Causal attention with the feature map ``elu + 1`` in place of softmax, chunk by chunk: (H, T, D)."""
    q, k = F.elu(q) + 1, F.elu(k) + 1
    state, norm, parts = v.new_zeros(q.shape[0], q.shape[-1], v.shape[-1]), v.new_zeros(q.shape[0], q.shape[-1], 1), []
    for a, b, c in zip(q.split(chunk, 1), k.split(chunk, 1), v.split(chunk, 1), strict=True):
        scores = (a @ b.transpose(-2, -1)).tril()
        total = scores.sum(dim=-1, keepdim=True) + a @ norm
        parts.append((scores @ c + a @ state) / total)
        state, norm = state + b.transpose(-2, -1) @ c, norm + b.sum(dim=1)[..., None]
    return torch.cat(parts, dim=1)
