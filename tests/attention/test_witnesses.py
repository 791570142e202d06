"""Witnesses from outside the project: PyTorch's multi-head attention, encoder layer, and sample inputs for SDPA."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attention import KERNELS, Kernel, MultiHeadAttention, MultiHeadAttentionLoop, TransformerBlock, reference
from bench.suite.matrix import COMPILING, VARIANTS

TOKENS, D_MODEL, HEADS = 17, 32, 4
EVERY_MODULE = pytest.mark.parametrize("module", [MultiHeadAttention, MultiHeadAttentionLoop])


def random_state(module: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(t.shape, generator=generator) * D_MODEL**-0.5 for n, t in module.state_dict().items()}


def witness_mask(kind: str | None, *, causal: bool) -> tuple[Tensor | None, Tensor | None]:
    """A mask (T, T) as the project means it, and both constraints as one mask as the witness means it."""
    visible = torch.rand(TOKENS, TOKENS, generator=torch.Generator().manual_seed(1)) < 0.75
    visible.fill_diagonal_(fill_value=True)  # the witness gives NaN for a row that sees nothing
    bias = torch.randn(TOKENS, TOKENS, generator=torch.Generator().manual_seed(2))
    future = ~torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    if kind == "float":
        return bias, bias.masked_fill(future, -torch.inf) if causal else bias
    if kind == "bool":
        return visible, ~visible | future if causal else ~visible
    return None, future if causal else None


def witness(module: Any, *, bias: bool) -> nn.Module:
    if module is TransformerBlock:
        sizes = D_MODEL, HEADS, 4 * D_MODEL
        return nn.TransformerEncoderLayer(*sizes, dropout=0.0, norm_first=True, batch_first=True, bias=bias)
    return nn.MultiheadAttention(D_MODEL, HEADS, bias=bias, batch_first=True)


def ask(theirs: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    out: Tensor
    if isinstance(theirs, nn.MultiheadAttention):
        out, _ = theirs(x, x, x, attn_mask=mask, need_weights=False)
    else:
        out = theirs(x, src_mask=mask)
    return out


@pytest.mark.parametrize("module", [MultiHeadAttention, MultiHeadAttentionLoop, TransformerBlock])
@pytest.mark.by_name
@pytest.mark.request_of(mask=(None, "bool", "float"), causal=(False, True), backward=True)
def test_state_dict_output_and_gradients_are_those_of_the_witness(
    *, kernel: Kernel, mask: str | None, causal: bool, module: Callable[..., nn.Module]
) -> None:
    own_mask, their_mask = witness_mask(mask, causal=causal)
    x = torch.randn(2, TOKENS, D_MODEL, generator=torch.Generator().manual_seed(3)).requires_grad_()
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    for bias, training in product((True, False), (True, False)):
        ours = module(D_MODEL, HEADS, bias=bias, kernel=kernel.name).train(training)
        theirs = witness(module, bias=bias).train(training)
        state = random_state(theirs)
        ours.load_state_dict(state)
        theirs.load_state_dict(ours.state_dict())
        assert all(torch.equal(t, state[name]) for name, t in theirs.state_dict().items())
        results = []
        for built, out in ((ours, ours(x, mask=own_mask, causal=causal)), (theirs, ask(theirs, x, their_mask))):
            own = dict(built.named_parameters())
            leaves = [x, *(own[name] for name in sorted(own))]
            results.append((out, *torch.autograd.grad(out, leaves, upstream)))
        for got, want in zip(*results, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4 if module is TransformerBlock else 1e-5)


@EVERY_MODULE
@pytest.mark.by_name
@pytest.mark.request_of(mask="bool")
def test_padding_is_that_of_the_witness_in_its_inference_fast_path(
    *, kernel: Kernel, module: Callable[..., nn.Module]
) -> None:
    ours = module(D_MODEL, HEADS, kernel=kernel.name).eval()
    theirs = nn.MultiheadAttention(D_MODEL, HEADS, batch_first=True).eval()
    ours.load_state_dict(random_state(theirs))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, TOKENS, D_MODEL, generator=torch.Generator().manual_seed(3))
    real = torch.arange(TOKENS) < torch.tensor([TOKENS, 9])[:, None]  # (B, T)
    with torch.no_grad():
        got = ours(x, mask=real[:, None, None, :])
        want, _ = theirs(x, x, x, key_padding_mask=~real, need_weights=False)
    torch.testing.assert_close(got[real], want[real], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def samples() -> list[Any]:
    """PyTorch's sample inputs for SDPA, float64, that ask for no dropout, which this package does not offer."""
    for needed in ("expecttest", "numpy"):
        pytest.importorskip(needed, reason="torch.testing._internal imports it")
    from torch.testing._internal.common_methods_invocations import op_db  # noqa: PLC0415  # slow, and not always there

    (op,) = (op for op in op_db if op.name == "nn.functional.scaled_dot_product_attention")
    return [
        sample
        for sample in op.sample_inputs("cpu", torch.float64, requires_grad=True)
        if not sample.kwargs.get("dropout_p")
    ]


def in_four_dimensions(tensors: list[Tensor]) -> list[Tensor]:
    """Broadcast what comes before tokens and head size, which PyTorch does by itself, to batch and heads."""
    lead = torch.broadcast_shapes(*(t.shape[:-2] for t in tensors))
    return [t.expand(*lead, -1, -1).unflatten(0, (-1, lead[0]) if len(lead) == 1 else (lead[0],)) for t in tensors]


def translate(kwargs: dict[str, Any], queries: int, keys: int) -> dict[str, Any]:
    """PyTorch's options in this package's words; its ``is_causal`` is aligned top-left."""
    mask = kwargs.get("attn_mask")
    if kwargs.get("is_causal") and queries != keys:
        assert mask is None
        mask = torch.ones(queries, keys, dtype=torch.bool).tril()
    causal = bool(kwargs.get("is_causal")) and queries == keys
    return {"mask": mask, "causal": causal, "scale": kwargs.get("scale")}


def test_sample_inputs_of_pytorch_cover_masks_causal_rectangles_and_broadcasting(samples: list[Any]) -> None:
    assert len(samples) >= 8
    assert any(s.kwargs.get("is_causal") for s in samples)
    assert any(s.kwargs.get("attn_mask") is not None for s in samples)
    assert any(s.input.shape[-2] != s.args[0].shape[-2] for s in samples)
    assert any(s.input.dim() != s.args[0].dim() for s in samples)


# A kernel that compiles would do so for each of the samples, and a variant may refuse some.
WITNESSED = {n: k for n, k in KERNELS.items() if n not in COMPILING + VARIANTS}


@pytest.mark.parametrize("attend", [*WITNESSED.values(), reference], ids=[*WITNESSED, "reference"])
def test_sample_inputs_of_pytorch_give_its_output_and_gradients(attend: Any, samples: list[Any]) -> None:
    served = 0
    for sample in samples:
        leaves = [t.detach().requires_grad_() for t in (sample.input, *sample.args)]
        q, k, v = in_four_dimensions(leaves)
        options = translate(sample.kwargs, q.shape[2], k.shape[2])
        mask = options["mask"]
        if isinstance(attend, Kernel) and attend.capabilities.lacks(
            mask=None if mask is None else "bool" if mask.dtype == torch.bool else "float",
            causal=options["causal"],
            grouped=q.shape[1] != k.shape[1],
            dtype=q.dtype,
            device="cpu",
            backward=True,
            value_size=q.shape[3] != v.shape[3],
        ):
            continue
        served += 1
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            theirs = nn.functional.scaled_dot_product_attention(*leaves, **sample.kwargs)
        ours = attend(q, k, v, **options).reshape(theirs.shape)
        upstream = torch.randn(theirs.shape, dtype=q.dtype, generator=torch.Generator().manual_seed(5))
        results = ((out, *torch.autograd.grad(out, leaves, upstream)) for out in (ours, theirs))
        for got, want in zip(*results, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    if not served:
        pytest.skip("not one of these is a request this kernel serves")
