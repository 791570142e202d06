"""What a kernel must do with masks, alignment, heads, scales and shapes: outputs and gradients against the oracle."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from attention import Kernel, reference

Check = Callable[..., dict[str, Tensor]]
Make = Callable[..., tuple[Tensor, Tensor, Tensor]]
KINDS = ("bool", "float")
LOW = (torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True), grouped=(False, True), dtype=LOW, backward=True)
def test_output_and_gradients_are_within_budget_of_the_oracle(
    *,
    kernel: Kernel,
    mask: str | None,
    causal: bool,
    grouped: bool,
    dtype: torch.dtype,
    make: Make,
    make_mask: Any,
    check: Check,
) -> None:
    q, k, v = make(kv_heads=2 if grouped else 4, dtype=dtype)
    check(kernel, q, k, v, mask=None if mask is None else make_mask(mask, 2, 1, 33, 49, dtype=dtype), causal=causal)


@pytest.mark.request_of(mask=KINDS, causal=(False, True), dtype=LOW, backward=True)
def test_row_that_sees_no_key_is_zero_and_has_zero_gradients(
    *, kernel: Kernel, mask: str, causal: bool, dtype: torch.dtype, make: Make, make_mask: Any, check: Check
) -> None:
    got = check(kernel, *make(dtype=dtype), mask=make_mask(mask, 33, 49, dtype=dtype, blind=5), causal=causal)
    assert torch.equal(got["out"][:, :, 5], torch.zeros(2, 4, 16, dtype=dtype))
    assert torch.equal(got["dq"][:, :, 5], torch.zeros(2, 4, 16, dtype=dtype))


@pytest.mark.request_of(mask=KINDS, backward=True)
def test_input_whose_every_row_is_blind_has_zero_output_and_gradients(
    *, kernel: Kernel, mask: str, make: Make, check: Check
) -> None:
    nothing = torch.zeros(33, 49, dtype=torch.bool)
    hidden = nothing if mask == "bool" else torch.zeros(33, 49).masked_fill(~nothing, -torch.inf)
    assert not any(t.any() for t in check(kernel, *make(), mask=hidden).values())


@pytest.mark.request_of(mask=KINDS, causal=True, backward=True)
def test_row_left_blind_only_by_mask_and_causal_together_is_zero(
    *, kernel: Kernel, mask: str, make: Make, make_mask: Any, check: Check
) -> None:
    alone = make_mask(mask, 33, 49)
    alone[:17] = False if mask == "bool" else -torch.inf
    alone[0, 40] = True if mask == "bool" else 0.0  # visible to the mask, in the future for the first query
    assert not check(kernel, *make(), mask=alone, causal=True)["out"][:, :, 0].any()


@pytest.mark.request_of(mask=KINDS, dtype=LOW, backward=True)
def test_blind_row_that_the_loss_leaves_out_brings_no_nan_into_gradients(
    *, kernel: Kernel, mask: str, dtype: torch.dtype, make: Make, make_mask: Any
) -> None:
    q, k, v = make(dtype=dtype)
    out = kernel(q, k, v, mask=make_mask(mask, 33, 49, dtype=dtype, blind=0))
    for gradient in torch.autograd.grad(out[:, :, 1:].sum(), (q, k, v)):
        assert gradient.isfinite().all()


@pytest.mark.request_of(mask="float", dtype=LOW)
def test_lowest_value_of_the_dtype_in_a_mask_hides_a_key_as_minus_infinity_does(
    *, kernel: Kernel, dtype: torch.dtype, make: Make, make_mask: Any
) -> None:
    q, k, v = make(dtype=dtype)
    bias = make_mask("float", 33, 49, dtype=dtype)
    lowest = bias.clamp(min=torch.finfo(dtype).min)
    assert torch.equal(kernel(q, k, v, mask=lowest), kernel(q, k, v, mask=bias))


@pytest.mark.request_of(mask="float", causal=(False, True), dtype=LOW, backward=True)
def test_row_whose_every_key_is_lowered_by_the_lowest_value_has_the_gradients_of_the_formula(
    *, kernel: Kernel, causal: bool, dtype: torch.dtype, make: Make, make_mask: Any, check: Check
) -> None:
    padded = make_mask("float", 33, 49, dtype=dtype)
    padded[:5, :21] = torch.finfo(dtype).min  # with causal, that is every key which these queries see
    padded[7] = torch.finfo(dtype).min
    check(kernel, *make(dtype=dtype), mask=padded, causal=causal, capped=False)  # fp16 scores vanish beside -65504


@pytest.mark.request_of(mask="float", dtype=LOW, backward=True)
def test_lowest_value_and_a_negative_score_together_stay_finite(
    *, kernel: Kernel, dtype: torch.dtype, make: Make
) -> None:
    q, k, v = make(size=64, dtype=dtype, factor=3.0)
    mask = torch.zeros(33, 49, dtype=dtype)
    mask[:5] = torch.finfo(dtype).min
    q, k = q.detach().abs().requires_grad_(), (-k.detach().abs()).requires_grad_()
    out = kernel(q, k, v, mask=mask)
    for result in (out, *torch.autograd.grad(out[:, :, 5:].sum(), (q, k, v))):
        assert result.isfinite().all()


@pytest.mark.request_of(mask="float", backward=True)
def test_gradient_reaches_a_bias_and_is_zero_where_the_bias_hides(
    *, kernel: Kernel, make: Make, make_mask: Any
) -> None:
    q, k, v = make()
    bias = make_mask("float", 1, 4, 33, 49, blind=3).requires_grad_()
    exact = bias.detach().double().requires_grad_()
    (got,) = torch.autograd.grad(kernel(q, k, v, mask=bias).sum(), bias)
    (want,) = torch.autograd.grad(reference(q.double(), k.double(), v.double(), mask=exact).sum(), exact)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    assert not got[bias == -torch.inf].any()


@pytest.mark.request_of(mask=(None, "bool"), dtype=(torch.float16, torch.bfloat16), backward=True)
def test_products_beyond_the_range_of_fp16_stay_finite_once_scaled(
    *, kernel: Kernel, mask: str | None, dtype: torch.dtype, make: Make, make_mask: Any, check: Check
) -> None:
    q, k, v = make(size=64, dtype=dtype, factor=100.0)
    assert (q.float() @ k.float().mT).abs().max() > torch.finfo(torch.float16).max
    hidden = None if mask is None else make_mask(mask, 33, 49, blind=2)
    check(kernel, q, k, v, mask=hidden, capped=False)


@pytest.mark.request_of(mask=KINDS, backward=True)
@pytest.mark.parametrize("hidden_keys", [64, 512, 1030])
def test_row_whose_first_keys_are_all_hidden_is_exact(
    *, kernel: Kernel, mask: str, hidden_keys: int, make: Make, check: Check
) -> None:
    visible = torch.arange(1100) >= torch.where(torch.arange(9) % 2 == 0, hidden_keys, 0)[:, None]
    hidden = visible if mask == "bool" else torch.zeros(9, 1100).masked_fill(~visible, -torch.inf)
    check(kernel, *make(1, 2, 9, 1100), mask=hidden)


@pytest.mark.request_of(causal=True, mask=(None, *KINDS), backward=True)
@pytest.mark.parametrize(("queries", "keys"), [(1, 9), (4, 9), (9, 9), (33, 1100)])
def test_causal_lets_the_last_query_see_every_key_and_each_earlier_one_a_key_less(
    *, kernel: Kernel, mask: str | None, queries: int, keys: int, make: Make, make_mask: Any, check: Check
) -> None:
    q, k, v = make(queries=queries, keys=keys)
    both = None if mask is None else make_mask(mask, queries, keys)
    visible = torch.arange(keys) <= torch.arange(keys - queries, keys)[:, None]
    combined = visible
    if both is not None:
        combined = both & visible if mask == "bool" else both.masked_fill(~visible, -torch.inf)
    got = check(kernel, q, k, v, mask=both, causal=True)["out"]
    torch.testing.assert_close(got.double(), reference(q, k, v, mask=combined).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.request_of(mask="bool")
def test_bool_mask_is_true_where_a_query_attends(*, kernel: Kernel, make: Make) -> None:
    q, k, v = make()
    own = torch.eye(33, 49, dtype=torch.bool)
    assert torch.equal(kernel(q, k, v, mask=own), v[:, :, :33])


@pytest.mark.request_of(mask=KINDS, backward=True)
@pytest.mark.parametrize(
    "shape",
    [
        (), (7,), (1,), (5, 7), (5, 1), (1, 7), (4, 5, 7), (1, 5, 7),
        (2, 1, 5, 7), (1, 4, 5, 7), (2, 4, 5, 7), (2, 1, 1, 7), (2, 1, 5, 1),
    ],
    ids=str,
)  # fmt: skip
def test_mask_of_any_broadcastable_shape_agrees_with_the_expanded_one(
    *, kernel: Kernel, mask: str, shape: tuple[int, ...], make: Make, make_mask: Any, check: Check
) -> None:
    q, k, v = make(queries=5, keys=7, kv_heads=2 if kernel.capabilities.grouped else 4)
    small = make_mask(mask, *shape)
    got, want = (check(kernel, q, k, v, mask=m) for m in (small, small.expand(2, 4, 5, 7).contiguous()))
    for name in want:
        torch.testing.assert_close(got[name], want[name])


@pytest.mark.request_of(causal=(False, True), mask=(None, "bool"), backward=True)
@pytest.mark.parametrize("scale", [0.0, 0, -0.0, -0.5, -1.0, 0.001, 1])
def test_scale_of_any_sign_does_what_the_formula_says(
    *, kernel: Kernel, mask: str | None, causal: bool, scale: float, make: Make, make_mask: Any, check: Check
) -> None:
    q, k, v = make()
    hidden = None if mask is None else make_mask(mask, 33, 49, blind=4)
    check(kernel, q, k, v, mask=hidden, causal=causal, scale=scale, capped=False)


@pytest.mark.request_of(grouped=True, causal=(False, True), mask=(None, "bool"), backward=True)
@pytest.mark.parametrize("kv_heads", [1, 2, 3])
def test_grouped_queries_read_repeated_heads_and_sum_their_gradients(
    *, kernel: Kernel, mask: str | None, causal: bool, kv_heads: int, make: Make, make_mask: Any
) -> None:
    q, k, v = make(heads=6, kv_heads=kv_heads)
    upstream = torch.randn(2, 6, 33, 16, generator=torch.Generator().manual_seed(3))
    options: dict[str, Any] = {"mask": None if mask is None else make_mask(mask, 2, 6, 33, 49), "causal": causal}
    repeated = [t.repeat_interleave(6 // kv_heads, dim=1) for t in (k, v)]
    grouped, plain = kernel(q, k, v, **options), kernel(q, *repeated, **options)
    torch.testing.assert_close(grouped, plain)
    for got, want in zip(*(torch.autograd.grad(o, (q, k, v), upstream) for o in (grouped, plain)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.request_of(causal=True, mask=(None, *KINDS), dtype=LOW)
def test_one_query_gives_the_last_row_of_the_full_result(
    *, kernel: Kernel, mask: str | None, dtype: torch.dtype, make: Make, make_mask: Any, check: Check
) -> None:
    q, k, v = make(queries=49, dtype=dtype)
    full = None if mask is None else make_mask(mask, 49, 49, dtype=dtype)
    last = None if full is None else full[-1:]
    rows = [check(kernel, q, k, v, mask=full, causal=True)["out"][:, :, -1:]]
    rows += [check(kernel, q[:, :, -1:], k, v, mask=last, causal=causal)["out"] for causal in (True, False)]
    assert torch.equal(rows[1], rows[2])
    torch.testing.assert_close(rows[0], rows[1], rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True), backward=True)
@pytest.mark.parametrize(
    "sizes",
    [
        {"batch": 0}, {"heads": 0}, {"queries": 0}, {"queries": 0, "keys": 0}, {"value_size": 0}, {"keys": 0},
        {"queries": 0, "kv_heads": 2},
    ],
    ids=str,
)  # fmt: skip
def test_zero_sized_dimension_gives_an_empty_or_zero_result_of_the_right_shape(
    *, kernel: Kernel, mask: str | None, causal: bool, sizes: dict[str, int], make: Make, make_mask: Any
) -> None:
    q, k, v = make(**{"queries": 5, "keys": 7} | sizes)
    able = kernel.capabilities
    if (
        (causal and q.shape[2] > k.shape[2])
        or ("kv_heads" in sizes and not able.grouped)
        or ("value_size" in sizes and not able.value_size)
    ):
        pytest.skip("not a request this kernel serves")
    hidden = None if mask is None else make_mask(mask, q.shape[2], k.shape[2])
    out = kernel(q, k, v, mask=hidden, causal=causal)
    assert out.shape == (*q.shape[:3], v.shape[3])
    assert not out.any()
    assert not any(g.any() for g in torch.autograd.grad(out.sum(), (q, k, v)))
