"""Where else a kernel runs: autocast, inference mode, double backward, torch.compile."""

import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from attention import KERNELS, Kernel, reference
from bench.observing.fingerprint import fingerprint
from bench.suite.naive import naive_attention

from .conftest import make, make_mask

KINDS = ("bool", "float")
# Their docstrings say so, and how they say no.
NO_SECOND_DERIVATIVE = {
    "sdpa": "backward is not implemented",
    "sdpa_flash": "backward is not implemented",
    "blockwise": "blockwise attention has no second derivative",
}


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True))
def test_autocast_computes_in_its_dtype_and_gives_gradients_in_the_inputs_dtype(
    *, kernel: Kernel, mask: str | None, causal: bool
) -> None:
    q, k, v = make()
    hidden = None if mask is None else make_mask(mask, 33, 49, blind=2)
    with torch.autocast("cpu", torch.bfloat16):
        out = kernel(q, k, v, mask=hidden, causal=causal)
    assert out.dtype == torch.bfloat16
    exact = reference(q, k, v, mask=hidden, causal=causal)
    naive = naive_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask=hidden, causal=causal)
    assert (out - exact).abs().max() <= 2 * (naive - exact).abs().max() + 2 * torch.finfo(torch.bfloat16).eps
    if not kernel.capabilities.backward:
        return
    for gradient in torch.autograd.grad(out.sum(), (q, k, v)):
        assert gradient.dtype == torch.float32
        assert gradient.isfinite().all()


def test_autocast_does_not_hide_inputs_of_different_dtypes(kernel: Kernel) -> None:
    q, k, v = make()
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ValueError, match=r"saw torch.bfloat16, torch.float32, torch.float32$"),
    ):
        kernel(q.bfloat16(), k, v)


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True))
def test_inference_mode_and_no_grad_give_the_same_result_as_training(
    *, kernel: Kernel, mask: str | None, causal: bool
) -> None:
    q, k, v = make()
    hidden = None if mask is None else make_mask(mask, 33, 49, blind=2)
    want = kernel(q, k, v, mask=hidden, causal=causal)
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            got = kernel(q, k, v, mask=hidden, causal=causal)
        assert not got.requires_grad
        torch.testing.assert_close(got, want.detach())


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True), dtype=torch.float64, backward=True)
def test_second_derivative_is_exact_or_refused(*, kernel: Kernel, mask: str | None, causal: bool) -> None:
    inputs = make(1, 2, 3, 4, 2, dtype=torch.float64)
    hidden = None if mask is None else make_mask(mask, 3, 4, dtype=torch.float64, blind=1)
    try:
        assert torch.autograd.gradgradcheck(lambda q, k, v: kernel(q, k, v, mask=hidden, causal=causal), inputs)
    except RuntimeError as error:
        if kernel.name not in NO_SECOND_DERIVATIVE or NO_SECOND_DERIVATIVE[kernel.name] not in str(error):
            raise


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


# torch's own tracing of an autograd function warns of what it does itself.
@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")
@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True), grouped=True, backward=True)
def test_kernel_compiles_without_a_graph_break(*, kernel: Kernel, mask: str | None, causal: bool) -> None:
    q, k, v = make(kv_heads=2)
    hidden = None if mask is None else make_mask(mask, 33, 49, blind=2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return kernel(q, k, v, mask=hidden, causal=causal)

    compiled = torch.compile(attend, backend="eager", fullgraph=True)
    results = [(f(q, k, v), *torch.autograd.grad(f(q, k, v).sum(), (q, k, v))) for f in (compiled, attend)]
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


def test_sdpa_stays_on_the_fused_backend_where_pytorch_would_leave_it() -> None:
    q, k, v = make()
    strided = [tuple(x.mT.contiguous().mT if x is odd else x for x in (q, k, v)) for odd in (q, k, v)]
    for inputs in ((q, k, v), *strided, make(value_size=8), make(value_size=24), make(keys=8, queries=8)):
        assert fingerprint(functools.partial(KERNELS["sdpa"], *inputs)).backend == "flash"


def test_formula_that_sdpa_takes_for_a_learned_mask_shows_in_the_fingerprint() -> None:
    bias = make_mask("float", 33, 49).requires_grad_()
    assert fingerprint(lambda: KERNELS["sdpa"](*make(), mask=bias)).backend == "math"
