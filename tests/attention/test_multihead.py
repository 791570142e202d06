"""The multi-head modules and the block: outputs and gradients of the formula, grouped or not, and what they refuse."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attention import KERNELS, MODULES, Kernel, reference
from bench.suite.naive import naive_module

from .conftest import make_mask

TOKENS, D_MODEL, HEADS = 17, 32, 4
EVERY_MODULE = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


def results(out: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out.dtype)
    return [out, *torch.autograd.grad(out, leaves, upstream)]


@EVERY_MODULE
@pytest.mark.by_name
@pytest.mark.request_of(mask=(None, "bool", "float"), causal=(False, True), grouped=(False, True), backward=True)
def test_module_computes_what_its_docstring_says(
    *, kernel: Kernel, mask: str | None, causal: bool, grouped: bool, module: Callable[..., nn.Module]
) -> None:
    hidden = None if mask is None else make_mask(mask, HEADS, TOKENS, TOKENS, blind=3)
    for kv_heads in (1, 2) if grouped else (None, HEADS):
        built = module(D_MODEL, HEADS, n_kv_heads=kv_heads, kernel=kernel.name)
        x = torch.randn(2, TOKENS, D_MODEL, generator=torch.Generator().manual_seed(1)).requires_grad_()
        names, own = zip(*built.named_parameters(), strict=True)
        exact_x, *exact = (t.detach().double().requires_grad_() for t in (x, *own))
        attend = partial(reference, mask=hidden, causal=causal)
        heads = {"n_heads": HEADS, "n_kv_heads": kv_heads or HEADS}
        want = naive_module(exact_x, dict(zip(names, exact, strict=True)), attend, **heads)
        for ours, formula in zip(
            results(built(x, mask=hidden, causal=causal), [x, *own]), results(want, [exact_x, *exact]), strict=True
        ):
            torch.testing.assert_close(ours.double(), formula, rtol=1e-5, atol=1e-4)


@EVERY_MODULE
def test_batch_and_tokens_may_be_zero(module: Callable[..., nn.Module]) -> None:
    built = module(D_MODEL, HEADS)
    for shape in ((0, 3, D_MODEL), (2, 0, D_MODEL)):
        assert built(torch.zeros(shape)).shape == shape


def tokens(*shape: int) -> Tensor:
    return torch.zeros(shape or (2, 3, 32))


def hiding(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


UNDIVIDED, UNGROUPED = "d_model must be a multiple of n_heads; saw", "n_heads must be a multiple of n_kv_heads; saw"
MISFIT = "mask must broadcast to (B, Hq, Tq, Tk) = (2, 4, 3, 3); saw"
CAUSAL, MEETS = "causal must be True or False; saw", "x must be torch.float32 on cpu, as the weights are; saw"
# What is done with a module's class, and what it raises.
REFUSED: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda cls: cls(30, 4), ValueError, f"{UNDIVIDED} d_model=30, n_heads=4"),
    (lambda cls: cls(32, 0), ValueError, f"{UNDIVIDED} d_model=32, n_heads=0"),
    (lambda cls: cls(0, 4), ValueError, f"{UNDIVIDED} d_model=0, n_heads=4"),
    (lambda cls: cls(32, 4, n_kv_heads=3), ValueError, f"{UNGROUPED} 4 and 3"),
    (lambda cls: cls(32, 4, n_kv_heads=8), ValueError, f"{UNGROUPED} 4 and 8"),
    (lambda cls: cls(32, 4, n_kv_heads=0), ValueError, f"{UNGROUPED} 4 and 0"),
    (lambda cls: cls(32, 4, kernel="x"), ValueError, f"no kernel is named 'x'; there are {', '.join(KERNELS)}"),
    (lambda cls: cls(32, 4)(tokens(3, 32)), ValueError, "x must be (batch, tokens, 32); saw (3, 32)"),
    (lambda cls: cls(32, 4)(tokens(2, 3, 31)), ValueError, "x must be (batch, tokens, 32); saw (2, 3, 31)"),
    (lambda cls: cls(32, 4)(tokens(1, 2, 3, 32)), ValueError, "x must be (batch, tokens, 32); saw (1, 2, 3, 32)"),
    (lambda cls: cls(32, 4)(tokens(), causal="no"), ValueError, f"{CAUSAL} 'no': give a mask as mask=..."),
    (
        lambda cls: cls(32, 4)(tokens(), None, hiding(3, 3)),
        ValueError,
        f"{CAUSAL} a tensor (3, 3): give a mask as mask=...",
    ),
    (lambda cls: cls(32, 4)(tokens().long()), ValueError, "x must be floating; saw torch.int64"),
    (
        lambda cls: cls(32, 4)(tokens().bfloat16()),
        ValueError,
        f"{MEETS} torch.bfloat16 on cpu: move either with .to(...)",
    ),
    (lambda cls: cls(32, 4)(tokens(), mask=hiding(3, 4)), ValueError, f"{MISFIT} (3, 4)"),
    (lambda cls: cls(32, 4)(tokens(), mask=hiding(2, 1, 3, 3, 3)), ValueError, f"{MISFIT} (2, 1, 3, 3, 3)"),
    (lambda cls: cls(32, 4)(tokens(), mask=hiding(3, 3, 3)), ValueError, f"{MISFIT} (3, 3, 3)"),
    (
        lambda cls: cls(32, 4, kernel="manual")(tokens(), mask=hiding(3, 3)),
        NotImplementedError,
        "kernel 'manual' does not support a bool mask",
    ),
]


def test_tokens_elsewhere_than_the_weights_are_quoted() -> None:
    for module in (MODULES["mha"], MODULES["mhaloop"]):
        with pytest.raises(ValueError, match=f"^{MEETS} torch.float32 on meta: move either"):
            module(32, 4)(tokens().to("meta"))


def test_on_the_meta_device_any_dtype_may_be_one_that_autocast_casts() -> None:
    model = MODULES["mha"](32, 4).to("meta").bfloat16()
    assert model(tokens().to("meta")).shape == tokens().shape


def test_under_autocast_tokens_need_not_be_of_the_weights_dtype() -> None:
    built, x = MODULES["mha"](32, 4), torch.randn(2, 3, 32)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(built(x.bfloat16()), built(x))
        with pytest.raises(ValueError, match=f"^{MEETS} torch.float64 on cpu: move either"):
            built(x.double())


@EVERY_MODULE
def test_what_cannot_be_is_quoted_and_dropout_is_not_offered(module: Callable[..., nn.Module]) -> None:
    for ask, error, message in REFUSED:
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            ask(module)
    with pytest.raises(TypeError, match="unexpected keyword argument 'dropout'"):
        module(32, 4, dropout=0.1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'dropout_p'"):
        module(32, 4)(tokens(), dropout_p=0.1)
