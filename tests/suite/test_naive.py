"""The yardstick's fp32 on CUDA: operands of fewer bits, for kernels that multiply by tensor cores."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

import attention
from bench.observing.drift import hold_to_budget
from bench.suite import naive
from bench.suite.cases import Case, Shape
from bench.suite.naive import SPLIT_BITS, rounded
from bench.suite.oracle import oracle, yardstick
from bench.suite.side import Side
from bench.suite.workload import bind, build

HEAD = Side.of("head", attention)
TF32_BITS = 11


def test_values_are_rounded_to_the_nearest_of_so_many_bits() -> None:
    powers = torch.arange(1000) % 61 - 30
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 10.0**powers
    mantissa, exponent = torch.frexp(x.double())
    nearest = torch.ldexp((mantissa.abs() * 2**SPLIT_BITS + 0.5).floor() / 2**SPLIT_BITS, exponent)
    assert torch.equal(rounded(x).double(), nearest * x.sign())


def test_what_is_no_number_stays_and_the_gradient_passes() -> None:
    x = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0, 1.0], requires_grad=True)
    torch.testing.assert_close(rounded(x).detach(), x.detach(), equal_nan=True)
    (gradient,) = torch.autograd.grad(rounded(x).sum(), x)
    assert torch.equal(gradient, torch.ones(5))


def tf32(x: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp((mantissa * 2**TF32_BITS).round() / 2**TF32_BITS, exponent)


def one_product(a: Tensor, b: Tensor) -> Tensor:
    return tf32(a) @ tf32(b)


def three_products(a: Tensor, b: Tensor) -> Tensor:
    return tf32(a - tf32(a)) @ tf32(b) + tf32(a) @ tf32(b - tf32(b)) + tf32(a) @ tf32(b)


def attend(multiply: Callable[[Tensor, Tensor], Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return multiply(multiply(q * q.shape[-1] ** -0.5, k.mT).softmax(dim=-1), v)


@pytest.mark.parametrize(("multiply", "right"), [(torch.matmul, True), (three_products, True), (one_product, False)])
def test_three_products_of_tf32_are_inside_the_budget_and_one_is_far_outside(
    multiply: Callable[[Tensor, Tensor], Tensor], right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naive, "operand", rounded)  # as on CUDA
    work = build(Case("manual", False, Shape.parse("b1h4t64d32"), "full", "fp32", "cpu", "fwd"), {})
    results = {"out": attend(multiply, *work.inputs.values())}
    (error,) = hold_to_budget(results, oracle(work), yardstick(work))
    assert bool(error.complaints) is not right
    assert error.share < 0.7 or error.share > 100


@contextmanager
def allowing_tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.cuda
def test_a_kernel_that_multiplies_in_tf32_is_over_its_budget_on_cuda() -> None:
    work = build(Case("masked", False, Shape.parse("b1h4t64d32"), "causal", "fp32", "cuda", "fwdbwd"), {})
    right = bind(work, HEAD).results()
    with allowing_tf32():
        wrong = bind(work, HEAD).results()
    exact, yard = oracle(work), yardstick(work)
    assert [c for e in hold_to_budget(right, exact, yard) for c in e.complaints] == []
    assert all(e.share > 10 for e in hold_to_budget(wrong, exact, yard))
