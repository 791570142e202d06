"""Properties of calls that are split, packed or padded, whose parts give what the whole gives; and of gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attention import Kernel

PROPERTY = settings(derandomize=True, deadline=None, max_examples=15)
TOKENS = st.sampled_from([1, 2, 3, 17, 63, 64, 65, 127, 192])
KINDS = ("bool", "float")
Make = Callable[..., tuple[Tensor, Tensor, Tensor]]


def assert_same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True), dtype=torch.float64)
@PROPERTY
@given(queries=TOKENS, keys=TOKENS)
def test_items_of_a_batch_and_heads_do_not_know_of_each_other(
    *, kernel: Kernel, mask: str | None, causal: bool, queries: int, keys: int, make: Make, make_mask: Any
) -> None:
    queries = min(queries, keys) if causal else queries
    q, k, v = make(2, 3, queries, keys, 8, dtype=torch.float64)
    hidden = None if mask is None else make_mask(mask, 2, 3, queries, keys, dtype=torch.float64)
    whole = kernel(q, k, v, mask=hidden, causal=causal)
    for i in range(2):
        for h in range(3):
            at = (slice(i, i + 1), slice(h, h + 1))
            part = kernel(q[at], k[at], v[at], mask=None if hidden is None else hidden[at], causal=causal)
            assert_same(whole[at], part)


@pytest.mark.request_of(mask=KINDS, dtype=torch.float64)
@PROPERTY
@given(lengths=st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=4))
def test_sequences_packed_block_diagonally_equal_separate_calls(
    *, kernel: Kernel, mask: str, lengths: list[tuple[int, int]], make: Make
) -> None:
    parts = [make(1, 2, a, b, 8, dtype=torch.float64, seed=i) for i, (a, b) in enumerate(lengths)]
    q, k, v = (torch.cat(same, dim=2) for same in zip(*parts, strict=True))
    visible = torch.block_diag(*(torch.ones(a, b) for a, b in lengths)).bool()
    hidden = visible if mask == "bool" else torch.zeros(visible.shape).masked_fill(~visible, -torch.inf).double()
    assert_same(kernel(q, k, v, mask=hidden), torch.cat([kernel(*part) for part in parts], dim=2))


@pytest.mark.request_of(mask=KINDS, causal=(False, True), dtype=torch.float64)
@PROPERTY
@given(lengths=st.lists(TOKENS, min_size=1, max_size=3))
def test_padded_sequences_equal_unpadded_ones(
    *, kernel: Kernel, mask: str, causal: bool, lengths: list[int], make: Make
) -> None:
    longest = max(lengths) + 1
    q, k, v = make(len(lengths), 2, longest, longest, 8, dtype=torch.float64)
    visible = torch.arange(longest) < torch.tensor(lengths)[:, None, None, None]  # (B, 1, 1, T)
    hidden = visible if mask == "bool" else torch.zeros(visible.shape).masked_fill(~visible, -torch.inf).double()
    whole = kernel(q, k, v, mask=hidden, causal=causal)
    for i, n in enumerate(lengths):
        assert_same(whole[i, :, :n], kernel(*(t[i : i + 1, :, :n] for t in (q, k, v)), causal=causal)[0])


@pytest.mark.request_of(mask=(None, *KINDS), causal=True, dtype=torch.float64)
@PROPERTY
@given(tokens=TOKENS, data=st.data())
def test_prefill_in_chunks_and_decoding_by_one_token_equal_the_full_pass(
    *, kernel: Kernel, mask: str | None, tokens: int, data: st.DataObject, make: Make, make_mask: Any
) -> None:
    q, k, v = make(1, 2, tokens, tokens, 8, dtype=torch.float64)
    hidden = None if mask is None else make_mask(mask, tokens, tokens, dtype=torch.float64)
    cuts = data.draw(st.sets(st.integers(1, tokens), max_size=4)) | {tokens, max(1, tokens - 1)}
    parts, start = [], 0
    for end in sorted(cuts):
        seen = None if hidden is None else hidden[start:end, :end]
        parts.append(kernel(q[:, :, start:end], k[:, :, :end], v[:, :, :end], mask=seen, causal=True))
        start = end
    assert_same(torch.cat(parts, dim=2), kernel(q, k, v, mask=hidden, causal=True))


@pytest.mark.request_of(
    mask=(None, *KINDS), causal=(False, True), grouped=(False, True), dtype=torch.float64, backward=True
)
@settings(PROPERTY, max_examples=5)
@given(queries=st.integers(1, 4), keys=st.integers(1, 4), size=st.integers(1, 3), blind=st.booleans())
def test_gradients_are_those_of_finite_differences(
    *,
    kernel: Kernel,
    mask: str | None,
    causal: bool,
    grouped: bool,
    queries: int,
    keys: int,
    size: int,
    blind: bool,
    make: Make,
    make_mask: Any,
) -> None:
    queries = min(queries, keys) if causal else queries
    value_size = 2 if kernel.capabilities.value_size else size
    inputs = make(1, 2, queries, keys, size, kv_heads=1 if grouped else 2, value_size=value_size, dtype=torch.float64)
    hidden = None
    if mask is not None:
        hidden = make_mask(mask, queries, keys, dtype=torch.float64, blind=queries - 1 if blind else None)
    assert torch.autograd.gradcheck(lambda q, k, v: kernel(q, k, v, mask=hidden, causal=causal), inputs)


@pytest.mark.request_of(mask=KINDS, causal=(False, True), dtype=torch.float64, backward=True)
@PROPERTY
@given(queries=TOKENS, keys=TOKENS, every=st.integers(2, 5))
def test_gradients_are_zero_at_masked_keys(
    *, kernel: Kernel, mask: str, causal: bool, queries: int, keys: int, every: int, make: Make, make_mask: Any
) -> None:
    queries = min(queries, keys) if causal else queries
    q, k, v = make(1, 2, queries, keys, 8, dtype=torch.float64)
    hidden = make_mask(mask, queries, keys, dtype=torch.float64)
    hidden[:, ::every] = False if mask == "bool" else -torch.inf
    out = kernel(q, k, v, mask=hidden, causal=causal)
    for gradient in torch.autograd.grad(out.square().sum(), (k, v)):
        assert not gradient[:, :, ::every].any()
