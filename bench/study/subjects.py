"""What is measured: attention as the write-ups wrote it, PyTorch's, and every registered kernel and module."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attention

from ..suite.cases import Case, Shape, lacks
from ..suite.side import Side
from ..suite.workload import Call, Workload, bind, build, parameter_sizes
from .published import BY_HAND, FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, PYTORCH

PYTORCH_4D = "PyTorch, with a head dimension"  # in three, its attention on a CPU takes its slower, unfused way
STUDIED, VOCABULARY = Shape.parse("b4h1t8d10"), 40  # the study's tiny configuration


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


FORMS: dict[str, Any] = {
    FUSED_BY_HAND: fused_by_hand,
    FUSED_SDPA: attention.MultiHeadAttention,
    LOOP_SDPA: attention.MultiHeadAttentionLoop,
}
SIDE = Side(
    "study",
    {BY_HAND: by_hand, PYTORCH: pytorch, PYTORCH_4D: pytorch, **attention.KERNELS},
    {**FORMS, **attention.MODULES},
)


def kernels(only: Collection[str] | None = None) -> list[str]:
    """The study's two, and then every registered kernel, or those that were asked for."""
    return [BY_HAND, PYTORCH, *(name for name in attention.KERNELS if only is None or name in only)]


def case_of(subject: str, case: str, device: str) -> Case:
    """Read a case's shape, mask, dtype and direction, such as ``b8h4t512d64-causal-fp16-fwd``."""
    shape, mask, dtype, direction = case.split("-")
    return Case(subject, subject in SIDE.modules, Shape.parse(shape), mask, dtype, device, direction)


def mask_for(subject: str) -> str:
    """Name the mask to measure a kernel or module with: causal, or none where it knows none."""
    kernel = attention.KERNELS.get(subject)
    return "causal" if kernel is None or kernel.capabilities.causal else "full"


def call(case: Case, seed: int = 0) -> Call:
    """Make the call of one case, on inputs that are the same for every subject; those of the study's case are its own.

    Raises:
        NotImplementedError: the kernel does not support the case.

    """
    kernel = attention.KERNELS.get(case.subject)
    unsupported = None if kernel is None else lacks(kernel, case)
    if unsupported is not None:
        raise NotImplementedError(unsupported)
    if case.shape == STUDIED:
        q, k, v = study_data(seed, case.device)
        if case.subject not in (BY_HAND, PYTORCH):  # kernels want a dimension of heads
            q, k, v = q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)
        return bind(Workload(case, {"q": q, "k": k, "v": v}, None, q), SIDE)
    # Inputs are drawn by the case's id: those of one stand-in serve all but modules with other parameters.
    stand_in = BY_HAND if not case.module else FUSED_SDPA if case.subject in FORMS else case.subject
    stood_for = replace(case, subject=stand_in)
    return bind(replace(build(stood_for, parameter_sizes(stood_for, SIDE), seed), case=case), SIDE)


def study_data(seed: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the study's data: tokens -> learned embedding -> three linear layers; q, k, v (4, 8, 10) each.

    Weights are drawn as ``nn.Embedding`` and ``nn.Linear`` draw theirs, from a generator of their own.
    """
    size = STUDIED.head_size
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (STUDIED.batch, STUDIED.queries), generator=generator)
    x = F.embedding(tokens, torch.randn(VOCABULARY, size, generator=generator))  # (B, T, d)
    weights = (2 * torch.rand(3, size, size, generator=generator) - 1) * size**-0.5  # W_Q, W_K, W_V
    q, k, v = (F.linear(x, weight).to(device) for weight in weights)
    return q, k, v
