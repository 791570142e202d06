"""Blockwise attention: no size of block shows in the result."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention import KERNELS
from attention.blockwise import BLOCK

from .conftest import make, make_mask

FUNCTION: Any = KERNELS["blockwise"].function  # it takes a block size, which a kernel's callers do not choose


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", [None, "bool", "float"])
@settings(derandomize=True, deadline=None, max_examples=10)
@given(
    block=st.sampled_from([1, 2, 7, 16, 49, 50, 1000]),
    queries=st.sampled_from([1, 3, 17, 48]),
    keys=st.sampled_from([48, 49, 63]),
    window=st.sampled_from([None, 1, 5, 30]),
)
def test_size_of_a_block_changes_neither_output_nor_gradients(
    *,
    causal: bool,
    kind: str | None,
    block: int,
    queries: int,
    keys: int,
    window: int | None,
) -> None:
    q, k, v = make(1, 4, queries, keys, 8, kv_heads=2, value_size=5, dtype=torch.float64)
    leaves = [q, k, v]
    mask = None if kind is None else make_mask(kind, 4, queries, keys, dtype=torch.float64, blind=0)
    if mask is not None:
        mask[:, -1, : keys // 2] = False if kind == "bool" else -torch.inf  # the first blocks hide all their keys
    if mask is not None and kind == "float":
        leaves.append(mask.requires_grad_())
    results = []
    for size in (block, BLOCK):
        out = FUNCTION(q, k, v, mask=mask, causal=causal, scale=-0.7, window=window, block=size)
        results.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_are_taken_in_float32_whatever_the_inputs(dtype: torch.dtype) -> None:
    q, k, v = make(1, 2, 300, 600, dtype=dtype)
    wide = [t.detach().float().requires_grad_() for t in (q, k, v)]
    out, exact = (KERNELS["blockwise"](*inputs, causal=True) for inputs in ((q, k, v), wide))
    assert torch.equal(out, exact.to(dtype))


def test_gradient_of_a_mask_is_summed_over_what_it_was_broadcast_to() -> None:
    q, k, v = make(2, 4, 33, 49)
    for shape in [(49,), (33, 1), (4, 1, 49), (2, 1, 33, 49), ()]:
        bias = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
        outs = (
            FUNCTION(q, k, v, mask=bias, causal=True, scale=None, block=16),
            KERNELS["masked"](q, k, v, mask=bias, causal=True),
        )
        got, want = (torch.autograd.grad(out.square().sum(), bias)[0] for out in outs)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_second_derivative_is_refused_by_every_way_of_asking() -> None:
    q, k, v = make()
    (gradient,) = torch.autograd.grad(KERNELS["blockwise"](q, k, v).sum(), q, create_graph=True)
    assert gradient.isfinite().all()
    with pytest.raises(RuntimeError, match="blockwise attention has no second derivative: differentiate twice through"):
        gradient.square().sum().backward()
