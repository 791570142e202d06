"""Properties that hold of attention whatever its inputs: hypothesis draws the shapes, logit sizes and masks.

They are identities of exact arithmetic, so they are tested in float64, where rounding is out of their way.
"""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attention import Kernel

PROPERTY = settings(derandomize=True, deadline=None, max_examples=15)
TOKENS = st.sampled_from([1, 2, 3, 17, 63, 64, 65, 127, 192])
HEAD_SIZES = st.sampled_from([1, 3, 8, 21, 64, 72, 128])
LOGIT_SIZES = st.sampled_from([1e-3, 1.0, 30.0, 1e3])
TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-3}  # a logit of 5e3 has an error of 1e-12 or 5e-4, weights have ten


@dataclass(frozen=True)
class Problem:
    """One call of a kernel."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    causal: bool
    scale: float | None = None

    def solve(self, kernel: Kernel, **changes: Any) -> Tensor:
        p = replace(self, **changes)
        return kernel(p.q, p.k, p.v, mask=p.mask, causal=p.causal, scale=p.scale)

    @property
    def visible(self) -> Tensor:
        """Which keys a query sees, by ``mask`` and ``causal`` together: (B, 1, Tq, Tk)."""
        queries, keys = self.q.shape[2], self.k.shape[2]
        visible = torch.ones(self.q.shape[0], 1, queries, keys, dtype=torch.bool)
        if self.mask is not None:
            visible = visible & (self.mask if self.mask.dtype == torch.bool else self.mask != -torch.inf)
        return visible.tril(keys - queries) if self.causal else visible

    @property
    def seeing(self) -> Tensor:
        """Which queries see a key: (B, 1, Tq, 1)."""
        return self.visible.any(dim=-1, keepdim=True)


@st.composite
def problems(draw: st.DrawFn, kernel: Kernel, *, masked: bool = False, causal: bool | None = None) -> Problem:
    """Draw a call that the kernel serves, with a mask if it must be, often with rows and blocks that see nothing."""
    able = kernel.capabilities
    dtype = torch.float64 if torch.float64 in able.dtypes else torch.float32
    kind = draw(st.sampled_from(([] if masked else [None]) + sorted(able.masks)))
    causal = draw(st.booleans()) and able.causal if causal is None else causal
    keys = draw(TOKENS)
    queries = min(draw(TOKENS), keys) if causal else draw(TOKENS)
    heads, kv_heads = draw(st.sampled_from([(1, 1), (2, 2), (4, 2)] if able.grouped else [(1, 1), (2, 2)]))
    batch, size = draw(st.integers(1, 2)), draw(HEAD_SIZES)
    value_size = draw(HEAD_SIZES) if able.value_size else size
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    q = torch.randn(batch, heads, queries, size, generator=generator, dtype=dtype) * draw(LOGIT_SIZES)
    k = torch.randn(batch, kv_heads, keys, size, generator=generator, dtype=dtype)
    v = torch.randn(batch, kv_heads, keys, value_size, generator=generator, dtype=dtype)
    if kind is None:
        return Problem(q, k, v, None, causal)
    visible = torch.rand(batch, 1, queries, keys, generator=generator) < draw(st.sampled_from([0.2, 0.9]))
    visible[:, :, :: draw(st.integers(2, 9)), :] &= draw(st.booleans())  # dead rows
    visible[:, :, :, : draw(st.sampled_from([0, 1, 64]))] &= draw(st.booleans())  # a dead block
    if kind == "bool":
        return Problem(q, k, v, visible, causal)
    bias = torch.randn(visible.shape, generator=generator, dtype=dtype)
    return Problem(q, k, v, bias.masked_fill(~visible, -torch.inf), causal)


def assert_same(got: Tensor, want: Tensor) -> None:
    tolerance = TOLERANCE[got.dtype]
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.request_of(causal=True)
@PROPERTY
@given(data=st.data())
def test_causal_output_ignores_future_keys_to_the_bit(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel, causal=True))
    queries, keys = p.q.shape[2], p.k.shape[2]
    last = data.draw(st.integers(0, queries - 1))
    k, v = p.k.clone(), p.v.clone()
    future = slice(last + keys - queries + 1, None)
    k[:, :, future] = 100.0 - 7.0 * k[:, :, future]
    v[:, :, future] = 1e30
    assert torch.equal(p.solve(kernel, k=k, v=v)[:, :, : last + 1], p.solve(kernel)[:, :, : last + 1])


@pytest.mark.request_of(mask="bool")
@PROPERTY
@given(data=st.data())
def test_key_masked_away_might_as_well_not_be_there(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel, masked=True, causal=False))
    assert p.mask is not None
    mask = p.mask.clone()
    gone = torch.arange(p.k.shape[2]) % data.draw(st.integers(2, 5)) == 1
    mask[..., gone] = False if mask.dtype == torch.bool else -torch.inf
    sliced = p.solve(kernel, k=p.k[:, :, ~gone], v=p.v[:, :, ~gone], mask=mask[..., ~gone])
    assert_same(p.solve(kernel, mask=mask), sliced)


@pytest.mark.request_of(mask="bool")
@PROPERTY
@given(data=st.data())
def test_huge_values_at_a_masked_key_change_nothing(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel, masked=True))
    assert p.mask is not None
    mask = p.mask.clone()
    mask[..., -1] = False if mask.dtype == torch.bool else -torch.inf
    v = p.v.clone()
    v[:, :, -1] = torch.finfo(v.dtype).max
    assert torch.equal(p.solve(kernel, mask=mask, v=v), p.solve(kernel, mask=mask))


@PROPERTY
@given(data=st.data())
def test_order_of_keys_does_not_matter(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel, causal=False))
    order = torch.randperm(p.k.shape[2], generator=torch.Generator().manual_seed(1))
    mask = None if p.mask is None else p.mask[..., order]
    assert_same(p.solve(kernel, k=p.k[:, :, order], v=p.v[:, :, order], mask=mask), p.solve(kernel))


@PROPERTY
@given(data=st.data())
def test_order_of_queries_is_the_order_of_the_output(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel, causal=False))
    order = torch.randperm(p.q.shape[2], generator=torch.Generator().manual_seed(1))
    mask = None if p.mask is None else p.mask[..., order, :]
    assert_same(p.solve(kernel, q=p.q[:, :, order], mask=mask), p.solve(kernel)[:, :, order])


@pytest.mark.request_of(value_size=True)
@PROPERTY
@given(data=st.data())
def test_weights_are_nonnegative_and_sum_to_one_or_for_a_blind_row_to_zero(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel))
    each_key = torch.eye(p.k.shape[2], dtype=p.v.dtype).expand(*p.k.shape[:3], -1)
    weights = p.solve(kernel, v=each_key)  # (B, Hq, Tq, Tk): values of one unit vector a key
    assert (weights >= 0).all()
    assert not weights[~p.visible.expand_as(weights)].any()
    assert_same(weights.sum(dim=-1, keepdim=True), p.seeing.expand(*weights.shape[:3], 1).to(weights.dtype))


@PROPERTY
@given(data=st.data())
def test_output_lies_between_the_smallest_and_largest_attended_value(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel))
    v = p.v.repeat_interleave(p.q.shape[1] // p.k.shape[1], dim=1).unsqueeze(2)  # (B, Hq, 1, Tk, Dv)
    hidden = ~p.visible.unsqueeze(-1)  # (B, 1, Tq, Tk, 1)
    out, slack = p.solve(kernel), TOLERANCE[p.v.dtype]
    assert (out <= v.masked_fill(hidden, -torch.inf).amax(dim=3) + slack)[p.seeing.expand_as(out)].all()
    assert (out >= v.masked_fill(hidden, torch.inf).amin(dim=3) - slack)[p.seeing.expand_as(out)].all()


@PROPERTY
@given(data=st.data())
def test_shift_shared_by_all_keys_does_not_matter(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel))
    assert_same(p.solve(kernel, k=p.k + torch.linspace(-2, 2, p.k.shape[3], dtype=p.k.dtype)), p.solve(kernel))


@PROPERTY
@given(data=st.data())
def test_output_is_linear_in_the_values(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel))
    other = p.v.flip(2).sin()
    assert_same(p.solve(kernel, v=3.0 * p.v - other), 3.0 * p.solve(kernel) - p.solve(kernel, v=other))


@PROPERTY
@given(data=st.data())
def test_values_of_one_give_one(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel))
    out = p.solve(kernel, v=torch.ones_like(p.v))
    assert_same(out, p.seeing.expand_as(out).to(out.dtype))


@PROPERTY
@given(data=st.data())
def test_scale_of_zero_gives_the_mean_of_the_attended_values(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel))
    mask = (
        None if p.mask is None else p.mask if p.mask.dtype == torch.bool else p.mask.clamp(max=0).where(~p.visible, 0)
    )
    shares = p.visible.to(p.v.dtype) / p.visible.sum(dim=-1, keepdim=True).clamp(min=1)
    v = p.v.repeat_interleave(p.q.shape[1] // p.k.shape[1], dim=1)
    assert_same(p.solve(kernel, mask=mask, scale=0.0), shares @ v)


@PROPERTY
@given(data=st.data())
def test_single_key_gives_its_value(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel, causal=False))
    out = p.solve(kernel, k=p.k[:, :, :1], v=p.v[:, :, :1], mask=None)
    assert_same(out, p.v[:, :, :1].repeat_interleave(p.q.shape[1] // p.k.shape[1], dim=1).expand_as(out))


@PROPERTY
@given(data=st.data(), factor=st.sampled_from([4.0, 0.0625, 3.0]))
def test_factor_of_the_queries_moves_into_the_scale(kernel: Kernel, data: st.DataObject, factor: float) -> None:
    p = data.draw(problems(kernel))
    scale = p.q.shape[3] ** -0.5
    moved = p.solve(kernel, q=p.q * factor, scale=scale / factor)
    assert_same(moved, p.solve(kernel, scale=scale))
    if factor != 3.0:  # a power of four, whose square root is a power of two as well
        assert torch.equal(moved, p.solve(kernel, scale=scale))


@pytest.mark.request_of(mask="bool")
@pytest.mark.request_of(mask="float")
@PROPERTY
@given(data=st.data())
def test_bool_mask_equals_its_zero_or_minus_infinity_bias(kernel: Kernel, data: st.DataObject) -> None:
    p = data.draw(problems(kernel, masked=True))
    seen = p.visible
    bias = torch.zeros(seen.shape, dtype=p.q.dtype).masked_fill(~seen, -torch.inf)
    assert_same(p.solve(kernel, mask=seen), p.solve(kernel, mask=bias))
