"""What a kernel must not do: lose NaN, spread it, depend on strides, write to its inputs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from attention import Kernel

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]
KINDS = ("bool", "float")
NAN_VALUES_SPREAD = {"sdpa", "sdpa_flash", "sdpa_math"}  # its docstring: NaN at a masked key reaches every row

INF_QUERIES_ZEROED = {"sdpa", "sdpa_flash", "decode"}  # sdpa's docstring: NaN or zero


def spoil(tensor: Tensor, token: int, value: float) -> Tensor:
    spoilt = tensor.detach().clone()
    spoilt[:, :, token, 3] = value
    return spoilt.requires_grad_()


FEW_AND_MANY_KEYS = (5, 15, 16, 49)  # PyTorch's fused kernel on CPU loses NaN scores where fewer than 16 keys are


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True))
@pytest.mark.parametrize("n_keys", FEW_AND_MANY_KEYS)
def test_nan_in_a_query_makes_its_row_nan_and_no_other(
    *, kernel: Kernel, mask: str | None, causal: bool, n_keys: int, make: Make, make_mask: Any
) -> None:
    q, k, v = make(queries=5, keys=n_keys)
    hidden = None if mask is None else make_mask(mask, 5, n_keys, visible=0)
    out = kernel(spoil(q, 4, torch.nan), k, v, mask=hidden, causal=causal)
    assert out[:, :, :4].isfinite().all()
    assert out[:, :, 4].isnan().all()


@pytest.mark.request_of(causal=(False, True), dtype=(torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize("n_keys", [5, 16])
def test_inf_in_a_query_touches_its_row_alone_and_makes_it_nan_or_zero_where_the_docstring_says_so(
    *, kernel: Kernel, causal: bool, dtype: torch.dtype, n_keys: int, make: Make
) -> None:
    q, k, v = (t.detach().to(dtype) for t in make(queries=5, keys=n_keys))
    k[..., 3] = k[..., 3].abs() * torch.tensor([1.0, -1.0]).repeat(n_keys)[:n_keys]  # scores of both infinities
    out, clean = (kernel(queries, k, v, causal=causal).detach() for queries in (spoil(q, 4, torch.inf).detach(), q))
    torch.testing.assert_close(out[:, :, :4], clean[:, :, :4])
    row = out[:, :, 4]
    assert (row.isnan() | (row == 0) if kernel.name in INF_QUERIES_ZEROED else row.isnan()).all()


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True))
@pytest.mark.parametrize("n_keys", FEW_AND_MANY_KEYS)
def test_nan_in_every_key_makes_every_row_nan(
    *, kernel: Kernel, mask: str | None, causal: bool, n_keys: int, make: Make, make_mask: Any
) -> None:
    q, k, v = make(queries=5, keys=n_keys)
    hidden = None if mask is None else make_mask(mask, 5, n_keys, visible=0)
    assert kernel(q, k * torch.nan, v, mask=hidden, causal=causal).isnan().all()


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True), backward=True)
@pytest.mark.parametrize("where", ["k", "v"])
def test_nan_in_a_key_or_value_makes_every_row_that_sees_it_nan(
    *, kernel: Kernel, mask: str | None, causal: bool, where: str, make: Make, make_mask: Any
) -> None:
    inputs: dict[str, Any] = dict(zip("qkv", make(), strict=True))
    inputs[where] = spoil(inputs[where], 20, torch.nan)
    hidden = None if mask is None else make_mask(mask, 33, 49)
    seeing = (
        torch.ones(33, dtype=torch.bool) if hidden is None else hidden[:, 20] > (0 if mask == "bool" else -torch.inf)
    )
    if causal:
        seeing = seeing & (torch.arange(33) >= 4)  # 33 queries end with 49 keys: query 4 is at key 20
    out = kernel(**inputs, mask=hidden, causal=causal)
    assert out[:, :, seeing].isnan().any(dim=-1).all()
    (gradient,) = torch.autograd.grad(out.sum(), inputs["q"])
    assert gradient[:, :, seeing].isnan().any(dim=-1).all()


@pytest.mark.request_of(mask=KINDS, causal=(False, True))
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_value_that_is_not_finite_reaches_no_row_that_it_is_masked_from(
    *, kernel: Kernel, mask: str, causal: bool, value: float, make: Make, make_mask: Any
) -> None:
    if kernel.name in NAN_VALUES_SPREAD:
        pytest.skip("its docstring says that NaN at a masked key spreads")
    q, k, v = make()
    hidden = make_mask(mask, 33, 49, blind=7)
    unseen = hidden[:, 20] == (False if mask == "bool" else -torch.inf)
    if causal:
        unseen = unseen | (torch.arange(33) < 4)  # 33 queries end with 49 keys: query 4 is at key 20
    clean, spoilt = (kernel(q, k, values, mask=hidden, causal=causal) for values in (v, spoil(v, 20, value)))
    assert torch.equal(spoilt[:, :, unseen], clean[:, :, unseen])
    assert spoilt[:, :, ~unseen].isfinite().logical_not().any(dim=-1).all()


@pytest.mark.request_of(mask=KINDS, causal=(False, True), grouped=(False, True), backward=True)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_value_that_is_not_finite_has_no_influence_on_gradients_if_masked_from_all(
    *, kernel: Kernel, mask: str, causal: bool, grouped: bool, value: float, make: Make, make_mask: Any
) -> None:
    if kernel.name in NAN_VALUES_SPREAD:
        pytest.skip("its docstring says that NaN at a masked key spreads")
    q, k, v = make(kv_heads=2 if grouped else 4)
    hidden = make_mask(mask, 33, 49, blind=7)
    hidden[:, 20] = False if mask == "bool" else -torch.inf
    results = []
    for values in (v, spoil(v, 20, value)):
        out = kernel(q, k, values, mask=hidden, causal=causal)
        results.append((out, *torch.autograd.grad(out.sum(), (q, k, values))))
    for clean, spoilt in zip(*results, strict=True):
        assert torch.equal(clean, spoilt)
    assert not results[1][3][:, :, 20].any()


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens_before_heads": lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
    "head_size_before_tokens": lambda t: t.mT.contiguous().mT,
    "batch_last": lambda t: t.movedim(0, -1).contiguous().movedim(-1, 0),
    "every_second_of_the_head_size": lambda t: torch.stack([t, t.flip(0)], dim=-1).flatten(-2)[..., ::2],
    "part_of_more_tokens": lambda t: torch.cat([t, t, t], dim=2)[:, :, t.shape[2] : 2 * t.shape[2]],
}


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True), backward=True)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layout_of_inputs_does_not_change_the_result(
    *, kernel: Kernel, mask: str | None, causal: bool, layout: Callable[[Tensor], Tensor], make: Make, make_mask: Any
) -> None:
    plain = [t.detach() for t in make()]
    hidden = None if mask is None else make_mask(mask, 2, 4, 33, 49, blind=3)
    strided = [layout(t) for t in plain]
    assert not any(t.is_contiguous() for t in strided)
    assert all(torch.equal(s, t) for s, t in zip(strided, plain, strict=True))
    results = []
    for inputs, m in ((plain, hidden), (strided, hidden if hidden is None else layout(hidden))):
        leaves = [t.requires_grad_() for t in inputs]
        out = kernel(*leaves, mask=m, causal=causal)
        results.append((out, *torch.autograd.grad(out, leaves, torch.ones(2, 4, 33, 16))))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.request_of(mask=(None, *KINDS), backward=True)
def test_inputs_expanded_without_memory_behave_as_copies(
    *, kernel: Kernel, mask: str | None, make: Make, make_mask: Any
) -> None:
    small = [t[:1, :1] for t in make()]
    hidden = None if mask is None else make_mask(mask, 1, 1, 33, 49, blind=3).expand(2, 4, 33, 49)
    results = []
    for copy in (False, True):
        wide = [t.expand(2, 4, -1, -1) for t in small]
        out = kernel(*(t.contiguous() if copy else t for t in wide), mask=hidden)
        results.append((out, *torch.autograd.grad(out, small, torch.ones(2, 4, 33, 16))))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True), backward=True)
def test_inputs_are_never_written_to(
    *, kernel: Kernel, mask: str | None, causal: bool, make: Make, make_mask: Any
) -> None:
    given = [*make(), torch.ones(2, 4, 33, 16)]
    if mask is not None:
        given.append(make_mask(mask, 2, 4, 33, 49, blind=3))
    before = [t.detach().clone() for t in given]
    q, k, v, upstream = given[:4]
    torch.autograd.grad(kernel(q, k, v, mask=None if mask is None else given[4], causal=causal), (q, k, v), upstream)
    assert all(torch.equal(t, b) for t, b in zip(given, before, strict=True))


@pytest.mark.request_of(mask=(None, "bool"), causal=(False, True))
def test_same_inputs_give_the_same_bits(
    *, kernel: Kernel, mask: str | None, causal: bool, make: Make, make_mask: Any
) -> None:
    q, k, v = make()
    hidden = None if mask is None else make_mask(mask, 33, 49)
    assert torch.equal(kernel(q, k, v, mask=hidden, causal=causal), kernel(q, k, v, mask=hidden, causal=causal))


ZERO_FOR_INF = {"sdpa", "sdpa_flash", "decode"}  # documented: PyTorch's fused kernel on CPU


@pytest.mark.request_of(causal=(False, True), dtype=(torch.float32, torch.bfloat16, torch.float16))
@pytest.mark.parametrize("inf", [torch.inf, -torch.inf])
@pytest.mark.parametrize("n_keys", [16, 17, 32])
def test_inf_in_a_query_makes_its_row_nan_or_where_that_is_documented_zero(
    *, kernel: Kernel, causal: bool, dtype: torch.dtype, inf: float, n_keys: int, make: Make
) -> None:
    q, k, v = make(queries=5, keys=n_keys, dtype=dtype)
    rows, plain = kernel(spoil(q, 4, inf), k, v, causal=causal), kernel(q, k, v, causal=causal)
    torch.testing.assert_close(rows[:, :, :4], plain[:, :, :4])
    is_nan = rows[:, :, 4].isnan().all(dim=-1)
    assert (is_nan | (rows[:, :, 4] == 0).all(dim=-1)).all() if kernel.name in ZERO_FOR_INF else is_nan.all()
