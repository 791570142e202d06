"""Attention in Triton, forward, as the kernels are that the gate is for: one program a block of queries.

``test_triton.py`` gates it against edits of this file: slower, wrong at the last keys, spilling registers.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def"
# ruff: noqa: N803, PLR0917  # constants of a Triton kernel are arguments in capitals

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS, WARPS = 64, 64, 4


@triton.jit
def _attend(
    q,
    k,
    v,
    out,
    scale,
    n_queries,
    n_keys,
    heads,
    group,
    CAUSAL: tl.constexpr,
    SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    head = tl.program_id(1)  # of all heads of all items
    kv_head = head // heads * (heads // group) + head % heads // group
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    feature = tl.arange(0, SIZE)
    at_q = (head * n_queries + row[:, None]) * SIZE + feature
    queries = tl.load(q + at_q, mask=row[:, None] < n_queries, other=0.0)
    highest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    sums = tl.zeros((ROWS, SIZE), tl.float32)
    for first in range(0, n_keys, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        at_k = (kv_head * n_keys + column[:, None]) * SIZE + feature
        keys = tl.load(k + at_k, mask=column[:, None] < n_keys, other=0.0)
        values = tl.load(v + at_k, mask=column[:, None] < n_keys, other=0.0)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale
        seen = column[None, :] < n_keys
        if CAUSAL:
            seen = seen & (column[None, :] <= row[:, None] + (n_keys - n_queries))
        scores = tl.where(seen, scores, float("-inf"))
        before = highest
        highest = tl.maximum(before, tl.max(scores, 1))
        kept = tl.exp(before - highest)
        weights = tl.exp(scores - highest[:, None])
        total = total * kept + tl.sum(weights, 1)
        sums = sums * kept[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
    tl.store(out + at_q, (sums / total[:, None]).to(queries.dtype), mask=row[:, None] < n_queries)


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Attend; shapes as ``attention.Kernel.__call__``, without a mask, forward, head sizes that are powers of two."""
    size = q.shape[-1]
    if mask is not None or v.shape[-1] != size or size & (size - 1) or size < 16:
        raise NotImplementedError(
            f"serves no mask, and one head size that is a power of two; saw {size}, {v.shape[-1]}"
        )
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v)):
        raise NotImplementedError("has no backward pass")
    q, k, v = (t.contiguous() for t in (q, k, v))
    out = torch.empty_like(q)
    batch, heads, n_queries, _ = q.shape
    _attend[(triton.cdiv(n_queries, ROWS), batch * heads)](
        q,
        k,
        v,
        out,
        size**-0.5 if scale is None else scale,
        n_queries,
        k.shape[2],
        heads,
        heads // k.shape[1],
        causal,
        size,
        ROWS,
        COLUMNS,
        num_warps=WARPS,
    )
    return out
