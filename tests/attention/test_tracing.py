"""``torch.jit.trace`` and the ONNX export built on it: right for every other size, or refused by name."""

import io
import re
from collections.abc import Iterator
from itertools import product
from typing import Any

import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from attention import KERNELS, MODULES, MultiHeadAttention, TinyTransformer, reference

TRACED = ("manual", "masked", "sdpa")
REFUSING = sorted(set(KERNELS) - {*TRACED, "sdpa_cudnn", "sdpa_efficient"})  # those two have no CPU
D_MODEL, HEADS, VOCABULARY, CONTEXT = 8, 4, 7, 40
pytestmark = [
    # Our checks turn sizes into Python's booleans, as checks of an example's sizes do.
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:`?torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.onnx"),
]


class Attention(nn.Module):
    def __init__(self, name: str, *, causal: bool) -> None:
        super().__init__()
        self.kernel, self.causal = KERNELS[name], causal
        self.options: Any = {} if self.kernel.capabilities.windowless else {"window": 5}

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.kernel(q, k, v, mask=mask, causal=self.causal, **self.options)


def inputs(queries: int, keys: int, kind: str | None, kv_heads: int, batch: int = 2) -> tuple[Tensor, ...]:
    """Normal q, k, v, and a mask whose first row hides every key."""
    generator = torch.Generator().manual_seed(queries)
    q = torch.randn(batch, HEADS, queries, 8, generator=generator)
    k, v = torch.randn(2, batch, kv_heads, keys, 8, generator=generator)
    seen = torch.rand(queries, keys, generator=generator) < 0.75
    seen[0] = False
    bias = torch.randn(queries, keys, generator=generator).masked_fill(~seen, -torch.inf)
    return (q, k, v, *({"bool": (seen,), "float": (bias,)}[kind] if kind else ()))


def asked() -> Iterator[tuple[str, str | None, bool, tuple[int, int]]]:
    """What is asked of a kernel, and the sizes of an example: for few keys and one query, sdpa decides otherwise."""
    for name, kind, causal in product(TRACED, (None, "bool", "float"), (False, True)):
        can = KERNELS[name].capabilities
        if can.lacks(mask=kind, causal=causal, grouped=True, dtype=torch.float32, device="cpu") is None:
            yield from ((name, kind, causal, example) for example in ((8, 8), (24, 24), (1, 24), (5, 24)))


EXPORTED = {(8, 8), (1, 24)}  # not every example, since an export takes longer
OTHERS = ((8, 8), (24, 24), (1, 24), (1, 1), (5, 24), (40, 40))


def wrong(call: Any, sizes: tuple[int, int], kind: str | None, *, causal: bool, kv_heads: int) -> bool:
    given = inputs(*sizes, kind, kv_heads, 3)
    mask = given[3] if kind else None
    want = reference(*given[:3], mask=mask, causal=causal)
    return not torch.allclose(call(*given).double(), want, rtol=1e-5, atol=1e-5)


def exported(module: nn.Module, given: tuple[Tensor, ...], axes: list[dict[int, str]]) -> Any:
    """What ONNX's own evaluator computes from the exported model."""
    file, names = io.BytesIO(), [f"input{i}" for i in range(len(given))]
    torch.onnx.export(
        module,
        given,
        file,  # type: ignore[arg-type]  # as its own documentation has it
        dynamo=False,
        opset_version=18,
        input_names=names,
        dynamic_axes=dict(zip(names, axes, strict=True)),
    )
    evaluator = ReferenceEvaluator(onnx.load_from_string(file.getvalue()))

    def call(*tensors: Tensor) -> Tensor:
        (out,) = evaluator.run(None, {name: t.numpy() for name, t in zip(names, tensors, strict=True)})
        return torch.from_numpy(out)

    return call


@torch.no_grad()
@pytest.mark.parametrize("kv_heads", [HEADS, 2])
def test_a_traced_or_exported_kernel_is_right_for_every_other_size(kv_heads: int) -> None:
    queries, keys = {0: "batch", 2: "queries"}, {0: "batch", 2: "keys"}
    failed = []
    for name, kind, causal, example in asked():
        if kv_heads < HEADS and example not in EXPORTED:
            continue  # every example is asked without groups
        module, given = Attention(name, causal=causal), inputs(*example, kind, kv_heads)
        calls: list[Any] = [torch.jit.trace(module, given)]
        if example in EXPORTED:
            axes = [queries, keys, keys, *([{0: "queries", 1: "keys"}] if kind else [])]
            calls.append(exported(module, given, axes))
        failed += [
            (type(call), name, kind, causal, example, sizes)
            for call, sizes in product(calls, OTHERS)
            if wrong(call, sizes, kind, causal=causal, kv_heads=kv_heads)
        ]
    assert failed == []


@pytest.mark.parametrize("name", REFUSING)
def test_every_other_kernel_refuses_by_name(name: str) -> None:
    refusal = (
        f"kernel '{name}' does not support torch.jit.trace, and so torch.onnx.export(dynamo=False): "
        "use torch.export, or trace 'sdpa'"
    )
    kernel, given = Attention(name, causal=True), inputs(8, 8, None, HEADS)
    traces: tuple[Any, ...] = (torch.jit.trace, lambda module, given: exported(module, given, [{}, {}, {}]))
    for trace in traces:
        with torch.no_grad(), pytest.raises(NotImplementedError, match=f"^{re.escape(refusal)}$"):
            trace(kernel, given)


def test_gradients_with_a_float_mask_in_a_trace_of_sdpa_are_refused() -> None:
    q, k, v, mask = inputs(24, 24, "float", HEADS)
    with pytest.raises(
        NotImplementedError, match=r"^sdpa does not support gradients with a float mask under torch.jit"
    ):
        torch.jit.trace(Attention("sdpa", causal=True), (q.requires_grad_(), k, v, mask))


class Called(nn.Module):
    """A module with the options of its calls."""

    def __init__(self, module: nn.Module, **options: Any) -> None:
        super().__init__()
        self.module, self.options = module, options

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x, **self.options)
        return out


def modules_over(name: str) -> list[nn.Module]:
    can = KERNELS[name].capabilities.causal
    built = [cls(D_MODEL, HEADS, n_kv_heads=2, kernel=name) for cls in MODULES.values()]
    built.append(TinyTransformer(VOCABULARY, D_MODEL, CONTEXT, n_heads=HEADS, kernel=name))
    return [Called(module, causal=can) for module in built]


def tokens_for(module: nn.Module, batch: int, tokens: int) -> Tensor:
    if isinstance(module.module, TinyTransformer):
        return torch.randint(VOCABULARY, (batch, tokens))
    return torch.randn(batch, tokens, D_MODEL)


@pytest.mark.parametrize("name", TRACED)
@pytest.mark.parametrize("example", [8, 24])
def test_traced_and_exported_modules_give_outputs_and_gradients_for_every_other_number_of_tokens(
    name: str, example: int
) -> None:
    for module in modules_over(name):
        given = tokens_for(module, 2, example)
        traced = torch.jit.trace(module, (given,))
        model = exported(module, (given,), [{0: "batch", 1: "tokens"}])
        for batch, tokens in ((1, 1), (3, 5), (2, 24), (2, 40)):
            x = tokens_for(module, batch, tokens)
            want, got = module(x), traced(x)
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(model(x), want.detach(), rtol=1e-4, atol=1e-5)
            parameters = list(module.parameters())
            for ours, theirs in zip(
                torch.autograd.grad(got.square().sum(), parameters),
                torch.autograd.grad(want.square().sum(), parameters),
                strict=True,
            ):
                torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_cache_is_not_traced() -> None:
    module = MultiHeadAttention(D_MODEL, HEADS)
    cache = module.make_cache(2, 8)
    with pytest.raises(
        NotImplementedError, match="^KVCache does not support torch.jit.trace, which would keep the exa"
    ):
        torch.jit.trace(Called(module, cache=cache), (torch.randn(2, 3, D_MODEL),))
    assert cache.length == 0
