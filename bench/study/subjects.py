"""What is measured: attention as the write-ups wrote it, PyTorch's, and every registered kernel and module."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attention

from ..cases import DTYPES, Case, Shape, lacks
from ..sides.side import Side
from ..sides.workload import Call, Workload, bind, build
from .published import BY_HAND, FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, PYTORCH

BATCH, CONTEXT, VOCABULARY, EMBEDDING = 4, 8, 40, 10  # the study's tiny configuration


def by_hand(q: Tensor, k: Tensor, v: Tensor, *, mask: None, causal: bool) -> Tensor:  # noqa: ARG001  # as a kernel's
    """The study's five steps: multiply, divide, mask, softmax, multiply; q, k, v (..., T, D) -> (..., T, D)."""
    scores = q @ k.transpose(-2, -1)  # (..., T, T); the batch dimension stays where it is
    scores = scores / q.shape[-1] ** 0.5
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    weights = scores.softmax(dim=-1)
    out: Tensor = weights @ v
    return out


def pytorch(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention`` and nothing else."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def fused_by_hand(d_model: int, n_heads: int, *, n_kv_heads: int | None = None) -> nn.Module:
    """One fused QKV projection around the five steps."""
    module = attention.MultiHeadAttention(d_model, n_heads, n_kv_heads=n_kv_heads)
    module.kernel = by_hand  # type: ignore[assignment]  # called as a kernel is
    return module


@dataclass(frozen=True)
class Subjects:
    """Everything that can be measured, by name, and which of it was asked for: ``only`` kernels, None for all."""

    only: Collection[str] | None = None

    @property
    def kernels(self) -> list[str]:
        """The study's two, and then every registered kernel that was asked for."""
        chosen = [name for name in attention.KERNELS if self.only is None or name in self.only]
        return [BY_HAND, PYTORCH, *chosen]

    def mask_for(self, subject: str) -> str:
        """Name the mask to measure a kernel with: causal, or none where it knows none."""
        kernel = attention.KERNELS.get(subject)
        return "causal" if kernel is None or kernel.capabilities.causal else "full"

    def side(self) -> Side:
        kernels: dict[str, Any] = {BY_HAND: by_hand, PYTORCH: pytorch, **attention.KERNELS}
        named = {
            FUSED_BY_HAND: fused_by_hand,
            FUSED_SDPA: attention.MultiHeadAttention,
            LOOP_SDPA: attention.MultiHeadAttentionLoop,
        }
        return Side("study", kernels, {**attention.MODULES, **named})

    def call(self, subject: str, case: Case) -> Call:
        """Make the call of one subject on a case's inputs, which are the same for every subject.

        Raises:
            NotImplementedError: the kernel does not support the case.

        """
        side = self.side()
        kernel = side.kernels.get(subject)
        unsupported = lacks(kernel, replace(case, subject=subject)) if hasattr(kernel, "capabilities") else None
        if unsupported is not None:
            raise NotImplementedError(unsupported)
        # Inputs are drawn by the case's id: those of one stand-in serve all but modules with other parameters.
        stand_in = BY_HAND if not case.module else subject if subject in attention.MODULES else FUSED_SDPA
        workload = build(replace(case, subject=stand_in), side)
        return bind(replace(workload, case=replace(case, subject=subject)), side)


def parse(case: str, device: str, *, module: bool = False) -> Case:
    """Read the name of a case as ``results.Series`` writes it; its subject is open."""
    shape, mask, dtype, direction = case.split("-")
    return Case("", module, Shape.parse(shape), mask, dtype, device, direction)


def study_call(subjects: Subjects, subject: str, case: Case, qkv: tuple[Tensor, Tensor, Tensor]) -> Call:
    """Make the call of one subject on the study's own q, k and v; a kernel gets them with a dimension for its head.

    Raises:
        NotImplementedError: the kernel does not support the case.

    """
    side = subjects.side()
    kernel = side.kernels[subject]
    unsupported = lacks(kernel, replace(case, subject=subject)) if hasattr(kernel, "capabilities") else None
    if unsupported is not None:
        raise NotImplementedError(unsupported)
    q, k, v = qkv if subject in (BY_HAND, PYTORCH) else (t.unsqueeze(1) for t in qkv)
    return bind(Workload(replace(case, subject=subject), {"q": q, "k": k, "v": v}, None, q), side)


def study_data(seed: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the study's data: tokens -> learned embedding -> three linear layers; q, k, v (4, 8, 10) each.

    Weights are drawn as ``nn.Embedding`` and ``nn.Linear`` draw theirs, from a generator of their own.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (BATCH, CONTEXT), generator=generator)
    x = F.embedding(tokens, torch.randn(VOCABULARY, EMBEDDING, generator=generator))  # (B, T, d)
    bound = EMBEDDING**-0.5
    weights = (2 * torch.rand(3, EMBEDDING, EMBEDDING, generator=generator) - 1) * bound  # W_Q, W_K, W_V
    q, k, v = (F.linear(x, weight).to(device) for weight in weights)
    return q, k, v


def flops(case: Case) -> float:
    """Count the multiplications and additions of one forward call: scores, weighing, and a module's projections."""
    shape = case.shape
    width = shape.heads * shape.head_size
    products = 4.0 * scores(case) * shape.head_size
    return products + (8.0 * shape.batch * shape.queries * width**2 if case.module else 0.0)


def scores(case: Case) -> int:
    """Count the elements of the score matrix."""
    shape = case.shape
    return shape.batch * shape.heads * shape.queries * shape.keys


def score_bytes(case: Case) -> int:
    """Estimate the peak of memory of the formula: four score matrices, which dominate."""
    return 4 * scores(case) * DTYPES[case.dtype].itemsize
