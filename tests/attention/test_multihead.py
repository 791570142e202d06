"""The multi-head modules: fused against head by head, grouped against repeated heads, and what they refuse."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attention import KERNELS, MODULES, Kernel, MultiHeadAttention, MultiHeadAttentionLoop, reference
from bench.suite.matrix import COMPILING
from bench.suite.naive import naive_module

from .conftest import make_mask

TOKENS, D_MODEL, HEADS = 17, 32, 4
Pair = tuple[MultiHeadAttention, MultiHeadAttentionLoop]
EVERY_MODULE = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


CAUSAL: dict[str, Any] = {
    "mask": None, "causal": True, "grouped": True, "dtype": torch.float32, "device": "cpu", "backward": True
}  # fmt: skip
NAMES = [n for n, k in KERNELS.items() if k.capabilities.lacks(**CAUSAL) is None and n not in COMPILING]


def pair(kernel: Kernel, kv_heads: int, *, bias: bool) -> Pair:
    fused = MultiHeadAttention(D_MODEL, HEADS, n_kv_heads=kv_heads, bias=bias, kernel=kernel.name)
    loop = MultiHeadAttentionLoop(D_MODEL, HEADS, n_kv_heads=kv_heads, bias=bias, kernel=kernel.name)
    generator = torch.Generator().manual_seed(0)
    for parameter in fused.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * D_MODEL**-0.5
    loop.load_state_dict(fused.state_dict())
    return fused, loop


def tokens(batch: int = 2) -> Tensor:
    return torch.randn(batch, TOKENS, D_MODEL, generator=torch.Generator().manual_seed(1)).requires_grad_()


def run(module: nn.Module, **options: Any) -> list[Tensor]:
    x = tokens()
    out = module(x, **options)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    return [out, *torch.autograd.grad(out, [x, *module.parameters()], upstream)]


@pytest.mark.by_name
@pytest.mark.request_of(mask=(None, "bool", "float"), causal=(False, True), grouped=(False, True), backward=True)
@pytest.mark.parametrize("bias", [True, False])
def test_loop_over_heads_equals_the_fused_projection(
    *, kernel: Kernel, mask: str | None, causal: bool, grouped: bool, bias: bool
) -> None:
    fused, loop = pair(kernel, 2 if grouped else HEADS, bias=bias)
    hidden = None if mask is None else make_mask(mask, HEADS, TOKENS, TOKENS, blind=3)
    results = (run(module, mask=hidden, causal=causal) for module in (fused, loop))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.by_name
@pytest.mark.request_of(mask=(None, "bool"), grouped=True, backward=True)
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads_equal_plain_ones_with_repeated_weights(
    *, kernel: Kernel, mask: str | None, kv_heads: int
) -> None:
    grouped, _ = pair(kernel, kv_heads, bias=True)
    plain, _ = pair(kernel, HEADS, bias=True)
    size, kv_size = D_MODEL // HEADS, D_MODEL // HEADS * kv_heads
    state = grouped.state_dict()
    for name in ("in_proj_weight", "in_proj_bias"):
        query, *key_and_value = state[name].split((D_MODEL, kv_size, kv_size))
        repeated = [t.unflatten(0, (kv_heads, size)).repeat_interleave(HEADS // kv_heads, 0) for t in key_and_value]
        state[name] = torch.cat([query, *(t.flatten(0, 1) for t in repeated)])
    plain.load_state_dict(state)
    hidden = None if mask is None else make_mask(mask, TOKENS, TOKENS)
    torch.testing.assert_close(plain(tokens(), mask=hidden), grouped(tokens(), mask=hidden), rtol=1e-5, atol=1e-5)


@EVERY_MODULE
@pytest.mark.parametrize("kernel_name", NAMES)
@pytest.mark.parametrize("kv_heads", [None, 1, 2, 4])
def test_module_computes_what_its_docstring_says(
    module: Callable[..., nn.Module], kernel_name: str, kv_heads: int | None
) -> None:
    built = module(D_MODEL, HEADS, n_kv_heads=kv_heads, kernel=kernel_name)
    parameters = {name: p.double() for name, p in built.named_parameters()}
    x = tokens()
    attend = partial(reference, causal=True)
    want = naive_module(x.double(), parameters, attend, n_heads=HEADS, n_kv_heads=kv_heads or HEADS)
    torch.testing.assert_close(built(x, causal=True).double(), want, rtol=1e-5, atol=1e-5)


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
