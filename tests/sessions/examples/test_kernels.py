"""Ordinary benchmarks, each with a formula as its reference: the gate holds them to their speed and their error."""

from typing import Any

import kernels
import pytest
import torch
from torch import Tensor

torch.manual_seed(0)
Q, K, V = torch.randn(3, 300, 4, 32)  # (T, H, D)
STARTS = [0, 7, 100, 300]


def formula(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Softmax attention: q (H, t, D), k and v (H, T, D)."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return (scores if hidden is None else scores.masked_fill(hidden, -torch.inf)).softmax(dim=-1) @ v


def packed(q: Tensor, k: Tensor, v: Tensor, starts: list[int]) -> Tensor:
    of = torch.bucketize(torch.arange(starts[-1]), torch.tensor(starts[1:]), right=True)  # the sequence of each token
    hidden = (of[:, None] != of) | torch.ones(len(of), len(of)).triu(1).bool()
    return formula(*(t.transpose(0, 1) for t in (q, k, v)), hidden).transpose(0, 1)


def paged(q: Tensor, k_pages: Tensor, v_pages: Tensor, table: Tensor, length: int) -> Tensor:
    at = [(int(table[i // k_pages.shape[1]]), i % k_pages.shape[1]) for i in range(length)]
    return formula(q, *(torch.stack([pages[where] for where in at], dim=1) for pages in (k_pages, v_pages)))


def latent(q: Tensor, compressed: Tensor, up_k: Tensor, up_v: Tensor) -> Tensor:
    return formula(q, compressed @ up_k, compressed @ up_v)


def linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = (torch.where(x > 0, x + 1, x.exp()) for x in (q, k))
    scores = (q @ k.transpose(-2, -1)).tril()
    return scores / scores.sum(dim=-1, keepdim=True) @ v


@pytest.mark.gate(reference=packed)
def test_packed_sequences(benchmark: Any) -> None:
    benchmark(kernels.packed, Q, K, V, STARTS)


@pytest.mark.gate(reference=paged)
def test_paged_cache(benchmark: Any) -> None:
    pages, table = torch.randn(2, 40, 16, 4, 32), torch.randperm(40)[:20]
    benchmark(kernels.paged, Q[:1].transpose(0, 1), *pages, table, length=311)


@pytest.mark.gate(reference=latent)
def test_latent_attention(benchmark: Any) -> None:
    benchmark(kernels.latent, Q[:8].transpose(0, 1), torch.randn(300, 48), *torch.randn(2, 4, 48, 32) / 48**0.5)


@pytest.mark.gate(reference=linear)
def test_linear_attention(benchmark: Any) -> None:
    benchmark(kernels.linear, *(t.transpose(0, 1) for t in (Q, K, V)))
