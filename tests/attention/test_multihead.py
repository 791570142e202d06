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


@EVERY_MODULE
@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((30, 4), {}, "d_model must be a multiple of n_heads; saw d_model=30, n_heads=4"),
        ((32, 0), {}, "d_model must be a multiple of n_heads; saw d_model=32, n_heads=0"),
        ((0, 4), {}, "d_model must be a multiple of n_heads; saw d_model=0, n_heads=4"),
        ((32, 4), {"n_kv_heads": 3}, "n_heads must be a multiple of n_kv_heads; saw 4 and 3"),
        ((32, 4), {"n_kv_heads": 8}, "n_heads must be a multiple of n_kv_heads; saw 4 and 8"),
        ((32, 4), {"n_kv_heads": 0}, "n_heads must be a multiple of n_kv_heads; saw 4 and 0"),
        ((32, 4), {"kernel": "fastest"}, f"no kernel is named 'fastest'; there are {', '.join(KERNELS)}"),
    ],
)
def test_sizes_and_kernels_that_cannot_be_are_refused_when_built(
    module: Callable[..., nn.Module], sizes: tuple[int, int], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        module(*sizes, **options)


@EVERY_MODULE
@pytest.mark.parametrize("shape", [(3, 32), (2, 3, 31), (1, 2, 3, 32)])
def test_tokens_of_another_shape_are_quoted(module: Callable[..., nn.Module], shape: tuple[int, ...]) -> None:
    message = f"x must be (batch, tokens, 32); saw {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        module(32, 4)(torch.zeros(shape))


@EVERY_MODULE
@pytest.mark.parametrize("shape", [(3, 4), (2, 1, 3, 3, 3), (3, 3, 3)])
def test_mask_that_does_not_fit_the_heads_is_quoted(module: Callable[..., nn.Module], shape: tuple[int, ...]) -> None:
    message = f"mask must broadcast to (B, Hq, Tq, Tk) = (2, 4, 3, 3); saw {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        module(32, 4)(torch.zeros(2, 3, 32), mask=torch.ones(shape, dtype=torch.bool))


@EVERY_MODULE
def test_dropout_is_not_offered_by_a_module(module: Callable[..., nn.Module]) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'dropout'"):
        module(32, 4, dropout=0.1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'dropout_p'"):
        module(32, 4)(torch.zeros(2, 3, 32), dropout_p=0.1)


@EVERY_MODULE
def test_request_beyond_the_kernel_is_refused_through_the_module(module: Callable[..., nn.Module]) -> None:
    with pytest.raises(NotImplementedError, match=r"^kernel 'manual' does not support a bool mask$"):
        module(32, 4, kernel="manual")(torch.zeros(2, 3, 32), mask=torch.ones(3, 3, dtype=torch.bool))
