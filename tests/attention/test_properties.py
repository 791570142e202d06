"""What hypothesis draws and no rule has: odd sizes, tiny and huge logits, hidden blocks, every option at once.

In float64 rounding is out of the way, so that output and gradients are the oracle's but for nine digits.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attention import Kernel, reference

from .conftest import make, make_mask

TOKENS = st.sampled_from([1, 2, 3, 17, 63, 64, 65, 127, 192, 257])
HEAD_SIZES = st.sampled_from([1, 3, 8, 21, 64, 72, 128])
LOGIT_SIZES = st.sampled_from([1e-3, 1.0, 30.0, 1e3])


@st.composite
def problems(draw: st.DrawFn, kernel: Kernel) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Draw tensors and options of a call that the kernel serves; often rows and blocks of keys see nothing."""
    able = kernel.capabilities
    kind, causal = draw(st.sampled_from([None, *sorted(able.masks)])), draw(st.booleans()) and able.causal
    keys = draw(TOKENS)
    queries = min(draw(TOKENS), keys) if causal else draw(TOKENS)
    heads, kv_heads = draw(st.sampled_from([(1, 1), (2, 2), (4, 2), (6, 2)] if able.grouped else [(1, 1), (2, 2)]))
    batch, size = draw(st.integers(1, 2)), draw(HEAD_SIZES)
    value_size = draw(HEAD_SIZES) if able.value_size else size
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    tensors = {
        "q": normal(batch, heads, queries, size) * draw(LOGIT_SIZES),
        "k": normal(batch, kv_heads, keys, size),
        "v": normal(batch, kv_heads, keys, value_size),
    }
    options: dict[str, Any] = {"causal": causal, "scale": draw(st.sampled_from([None, 1.0, -0.3, 0.0]))}
    if able.window:
        options["window"] = draw(st.sampled_from([None, 1, 5, 64]))
    if able.softcap and draw(st.booleans()):
        options["softcap"] = 3.0
    if able.sinks and draw(st.booleans()):
        tensors["sinks"] = normal(heads)
    if kind is None:
        return tensors, options
    visible = torch.rand(batch, 1, queries, keys, generator=generator) < draw(st.sampled_from([0.2, 0.9]))
    visible[:, :, :: draw(st.integers(2, 9)), :] &= draw(st.booleans())  # blind rows
    visible[:, :, :, : draw(st.sampled_from([0, 1, 64]))] &= draw(st.booleans())  # a hidden block
    if kind == "bool":
        return tensors, options | {"mask": visible}
    bias = normal(*visible.shape).masked_fill(~visible, -torch.inf)
    return tensors | {"mask": bias.to(draw(st.sampled_from([torch.float64, torch.float32])))}, options


@pytest.mark.request_of(dtype=torch.float64)
@settings(derandomize=True, deadline=None, max_examples=60)
@given(data=st.data())
def test_output_and_gradients_are_the_oracle_s_whatever_the_request(kernel: Kernel, data: st.DataObject) -> None:
    tensors, options = data.draw(problems(kernel))
    results = []
    for attend in (kernel, reference):
        leaves = {name: t.clone().requires_grad_(kernel.capabilities.backward) for name, t in tensors.items()}
        asked: dict[str, Any] = {**leaves, **options}
        out = attend(**asked)
        found = {"out": out.detach()}
        if kernel.capabilities.backward:
            upstream = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
            found |= zip(leaves, torch.autograd.grad(out, list(leaves.values()), upstream), strict=True)
        results.append(found)
    got, want = results
    for name, exact in want.items():
        size, tolerance = 1 + exact.abs().max().item(), 1e-9 if exact.dtype == torch.float64 else 1e-5
        torch.testing.assert_close(got[name], exact, rtol=tolerance, atol=tolerance * size, msg=f"{name} differs")


@pytest.mark.request_of(
    mask=(None, "bool", "float"), causal=(False, True), grouped=(False, True), dtype=torch.float64, backward=True
)
@settings(derandomize=True, deadline=None, max_examples=3)
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
) -> None:
    queries = min(queries, keys) if causal else queries
    value_size = 2 if kernel.capabilities.value_size else size
    inputs = make(1, 2, queries, keys, size, kv_heads=1 if grouped else 2, value_size=value_size, dtype=torch.float64)
    hidden = None
    if mask is not None:
        hidden = make_mask(mask, queries, keys, dtype=torch.float64, blind=queries - 1 if blind else None)
    assert torch.autograd.gradcheck(lambda q, k, v: kernel(q, k, v, mask=hidden, causal=causal), inputs)
