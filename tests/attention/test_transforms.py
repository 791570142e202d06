"""Kernels under torch.func, without data, exported, compiled for any length: as the plain call, or refused by name."""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.export import Dim, export
from torch.func import grad, vmap

from attention import KERNELS, Kernel
from bench.suite.matrix import COMPILING

from .conftest import make, make_mask

KINDS = ("bool", "float")
COUNTS_ARE_FIXED = {"blockwise", "decode", "sliding_window"}
pytestmark = [
    # PyTorch has no batching rule for its fused kernel on CPU, so it calls that item by item.
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),  # in torch's own tracing
    pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning"),  # likewise
]


def three_items(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = make(6, 4, tokens, tokens, 8)
    return q.detach().unflatten(0, (3, 2)), k.detach().unflatten(0, (3, 2)), v.detach().unflatten(0, (3, 2))


@pytest.mark.parametrize("tokens", [8, 24])
@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True))
def test_vmap_gives_what_a_loop_does(*, kernel: Kernel, mask: str | None, causal: bool, tokens: int) -> None:
    inputs = three_items(tokens)
    hidden = None if mask is None else make_mask(mask, tokens, tokens, blind=2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return kernel(q, k, v, mask=hidden, causal=causal)

    if kernel.name == "decode":
        with pytest.raises(NotImplementedError, match="^KVCache does not support torch.func.vmap: "):
            vmap(attend)(*inputs)
        return
    q, k, v = inputs
    torch.testing.assert_close(vmap(attend)(q, k, v), torch.stack(list(map(attend, q, k, v))))
    torch.testing.assert_close(
        vmap(attend, (0, None, None))(q, k[0], v[0]), torch.stack([attend(x, k[0], v[0]) for x in q])
    )


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True), backward=True)
@pytest.mark.parametrize("tokens", [8, 24])
def test_gradients_of_each_sample_are_those_of_a_loop(
    *, kernel: Kernel, mask: str | None, causal: bool, tokens: int
) -> None:
    inputs = three_items(tokens)
    hidden = None if mask is None else make_mask(mask, tokens, tokens, blind=2)

    def loss(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return kernel(q, k, v, mask=hidden, causal=causal).square().sum()

    derivative = grad(loss, argnums=(0, 1, 2))
    apart = []
    for item in zip(*inputs, strict=True):
        leaves = [t.clone().requires_grad_() for t in item]
        apart.append(torch.autograd.grad(loss(*leaves), leaves))
    for got, want in zip(derivative(*(t[0] for t in inputs)), apart[0], strict=True):
        torch.testing.assert_close(got, want)
    for got, wants in zip(vmap(derivative)(*inputs), zip(*apart, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(wants))


LEARNED: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    *(("mask", shape, {}) for shape in ((9,), (9, 9), (1, 4, 9, 9), (2, 1, 9, 9))),
    ("sinks", (4,), {"softcap": 2.0, "causal": True}),
]


@pytest.mark.parametrize("name", ["masked", "blockwise", "sdpa"])
@pytest.mark.parametrize(("learned", "shape", "options"), LEARNED, ids=str)
def test_what_is_learned_has_a_gradient_of_each_sample(
    name: str, learned: str, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    if not getattr(KERNELS[name].capabilities, learned, True):
        pytest.skip(f"{name} takes no {learned}")
    q, k, v = three_items(9)
    values = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))

    def loss(q: Tensor, k: Tensor, v: Tensor, value: Tensor) -> Tensor:
        given: dict[str, Any] = {learned: value, **options}
        return KERNELS[name](q, k, v, **given).square().sum()

    for dim, each in ((None, [values[0]] * 3), (0, list(values))):  # one for all samples, and one for each
        got = vmap(grad(loss, argnums=3), (0, 0, -1, dim))(q, k, v.movedim(0, -1), values[0] if dim is None else values)
        for i in range(3):
            leaf = each[i].clone().requires_grad_()
            torch.testing.assert_close(got[i], torch.autograd.grad(loss(q[i], k[i], v[i], leaf), leaf)[0])


@pytest.mark.parametrize("lowered", [False, True])
def test_sdpa_names_the_float_masks_whose_gradients_it_cannot_give_under_a_transform(*, lowered: bool) -> None:
    q, k, v = three_items(24)
    mask = torch.full((24, 24), -1e30) if lowered else torch.zeros(3, 24, 24)

    def loss(q: Tensor, mask: Tensor) -> Tensor:
        return KERNELS["sdpa"](q, k[0], v[0], mask=mask).sum()

    with pytest.raises(NotImplementedError, match="^sdpa does not support gradients with a float mask .*'masked'$"):
        vmap(grad(loss), (0, None if lowered else 0))(q, mask)


def test_blockwise_names_the_derivatives_that_it_does_not_have() -> None:
    q, k, v = (t[0] for t in three_items(8))

    def attend(q: Tensor) -> Tensor:
        return KERNELS["blockwise"](q, k, v).sum()

    with pytest.raises(RuntimeError, match="^blockwise attention has no second derivative: "):
        grad(lambda q: grad(attend)(q).sum())(q)
    with pytest.raises(NotImplementedError, match="^blockwise does not support forward-mode derivatives: "):
        torch.func.jvp(attend, (q,), (q,))


@pytest.mark.parametrize("name", COMPILING)
def test_kernels_that_compile_refuse_a_transform_by_name(name: str) -> None:
    refusal = f"^kernel '{name}' does not support torch.func's transforms: compile the transformed function instead$"
    q, k, v = three_items(8)
    with pytest.raises(NotImplementedError, match=refusal):
        vmap(KERNELS[name])(q, k, v)
    with pytest.raises(NotImplementedError, match=refusal):
        grad(lambda q: KERNELS[name](q, k[0], v[0]).sum())(q[0])


def requests_of(name: str) -> Iterator[tuple[str | None, bool]]:
    """The masks, and causal or not, that a kernel serves."""
    can = KERNELS[name].capabilities
    for kind, causal in product((None, *KINDS), (False, True)):
        asked: dict[str, Any] = {"mask": kind, "causal": causal, "grouped": False, "dtype": torch.float32}
        if can.lacks(**asked, device="cpu", **options_of(name)) is None:
            yield kind, causal


def options_of(name: str) -> dict[str, Any]:
    return {} if KERNELS[name].capabilities.windowless else {"window": 5}


@pytest.mark.parametrize("name", [name for name in KERNELS if any(requests_of(name))])
def test_tensors_without_data_give_the_shape_and_that_of_gradients(name: str) -> None:
    kernel, fake = KERNELS[name], FakeTensorMode()
    backward = kernel.capabilities.backward and name != "flex"
    for (kind, causal), keys in product(requests_of(name), (8, 40)):
        for mode, emptied in ((fake, fake.from_tensor), (nullcontext(), lambda t: t.to("meta"))):
            q, k, v = (emptied(t.detach()).requires_grad_(backward) for t in make(2, 4, 8, keys, 16))
            hidden = None if kind is None else emptied(make_mask(kind, 8, keys))
            with mode:
                out = kernel(q, k, v, mask=hidden, causal=causal, **options_of(name))
                assert (type(out), out.shape) == (type(q), (2, 4, 8, 16))
                if backward:
                    assert torch.autograd.grad(out.sum(), k)[0].shape == k.shape


class Attention(nn.Module):
    def __init__(self, name: str, *, causal: bool) -> None:
        super().__init__()
        self.name, self.causal = name, causal

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        return KERNELS[self.name](q, k, v, mask=mask, causal=self.causal, **options_of(self.name))


EXPORTED_ALIKE = {"masked", "sdpa"}  # the other kernels are these, or are asked one request


@pytest.mark.parametrize("name", sorted(EXPORTED_ALIKE))
@pytest.mark.parametrize("kind", [None, *KINDS])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("square", [True, False])
def test_an_exported_kernel_serves_every_number_of_tokens(
    name: str, kind: str | None, *, causal: bool, square: bool
) -> None:
    def inputs(queries: int, keys: int) -> tuple[Any, ...]:
        hidden = None if kind is None else make_mask(kind, queries, keys)
        return (*(t.detach() for t in make(2, 4, queries, keys, 8)), hidden)

    queries = Dim("queries")
    keys = queries if square else Dim("keys")
    dynamic = ({2: queries}, {2: keys}, {2: keys}, None if kind is None else {0: queries, 1: keys})
    program = export(Attention(name, causal=causal), inputs(24, 24 if square else 40), dynamic_shapes=dynamic).module()
    for n_queries, n_keys in [(5, 5), (16, 16), (33, 33)] if square else [(3, 9), (20, 40)]:
        want = KERNELS["masked"](*inputs(n_queries, n_keys)[:3], mask=inputs(n_queries, n_keys)[3], causal=causal)
        torch.testing.assert_close(program(*inputs(n_queries, n_keys)), want)


@pytest.mark.parametrize("name", [n for n in KERNELS if n not in EXPORTED_ALIKE and any(requests_of(n))])
def test_any_other_kernel_is_exported_or_refuses_by_name(name: str) -> None:
    tokens = Dim("tokens")
    attention, inputs = Attention(name, causal=name != "manual"), [t.detach() for t in make(2, 4, 24, 24, 8)]
    if name in COUNTS_ARE_FIXED:
        with pytest.raises(
            NotImplementedError, match=f"^kernel '{name}' does not support a dynamic number of tokens: "
        ):
            export(attention, tuple(inputs), dynamic_shapes=({2: tokens},) * 3)
        return
    program = export(attention, tuple(inputs), dynamic_shapes=({2: tokens},) * 3).module()
    fewer = [t[:, :, :7] for t in inputs]
    torch.testing.assert_close(program(*fewer), KERNELS["masked"](*fewer, causal=attention.causal))


@pytest.mark.parametrize("name", ["manual", "masked", "sdpa", "blockwise"])
def test_a_kernel_compiled_for_any_length_gives_what_it_does_plainly(name: str) -> None:
    kernel, causal = KERNELS[name], name != "manual"
    torch.compiler.reset()
    attend = torch.compile(lambda q, k, v: kernel(q, k, v, causal=causal), backend="aot_eager", dynamic=True)
    for queries, keys in ((3, 9), (4, 20)):
        q, k, v = (t.detach() for t in make(2, 4, queries, keys, 8))
        torch.testing.assert_close(attend(q, k, v), kernel(q, k, v, causal=causal))
    torch.compiler.reset()
