"""Kernels under torch.func, without data, exported, compiled for any length: as the plain call, or refused by name."""

from collections.abc import Iterator
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


@pytest.mark.request_of(mask=(None, *KINDS), causal=(False, True))
@pytest.mark.parametrize("tokens", [8, 24])
def test_vmap_gives_what_a_loop_does(*, kernel: Kernel, mask: str | None, causal: bool, tokens: int) -> None:
    inputs = three_items(make, tokens)
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
    inputs = three_items(make, tokens)
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


@pytest.mark.parametrize("name", ["masked", "blockwise", "sdpa"])
@pytest.mark.parametrize("shape", [(9,), (9, 9), (1, 4, 9, 9), (2, 1, 9, 9)], ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_a_learned_mask_has_a_gradient_of_each_sample(name: str, shape: tuple[int, ...], *, shared: bool) -> None:
    q, k, v = three_items(make, 9)
    masks = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))

    def loss(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return KERNELS[name](q, k, v, mask=mask).square().sum()

    got = vmap(grad(loss, argnums=3), (0, 0, -1, None if shared else 0))(
        q, k, v.movedim(0, -1), masks[0] if shared else masks
    )
    for i in range(3):
        leaf = masks[0 if shared else i].clone().requires_grad_()
        torch.testing.assert_close(got[i], torch.autograd.grad(loss(q[i], k[i], v[i], leaf), leaf)[0])


@pytest.mark.parametrize("name", ["masked", "blockwise"])
def test_learned_sinks_have_a_gradient_of_each_sample_beside_a_softcap(name: str) -> None:
    q, k, v = three_items(make, 9)
    sinks = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))

    def loss(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor) -> Tensor:
        return KERNELS[name](q, k, v, sinks=sinks, softcap=2.0, causal=True).square().sum()

    got = vmap(grad(loss, argnums=3))(q, k, v, sinks)
    for i in range(3):
        leaf = sinks[i].clone().requires_grad_()
        torch.testing.assert_close(got[i], torch.autograd.grad(loss(q[i], k[i], v[i], leaf), leaf)[0])


@pytest.mark.parametrize("lowered", [False, True])
def test_sdpa_names_the_float_masks_whose_gradients_it_cannot_give_under_a_transform(*, lowered: bool) -> None:
    q, k, v = three_items(make, 24)
    mask = torch.full((24, 24), -1e30) if lowered else torch.zeros(3, 24, 24)

    def loss(q: Tensor, mask: Tensor) -> Tensor:
        return KERNELS["sdpa"](q, k[0], v[0], mask=mask).sum()

    with pytest.raises(NotImplementedError, match="^sdpa does not support gradients with a float mask .*'masked'$"):
        vmap(grad(loss), (0, None if lowered else 0))(q, mask)


def test_blockwise_names_the_derivatives_that_it_does_not_have() -> None:
    q, k, v = (t[0] for t in three_items(make, 8))

    def attend(q: Tensor) -> Tensor:
        return KERNELS["blockwise"](q, k, v).sum()

    with pytest.raises(RuntimeError, match="^blockwise attention has no second derivative: "):
        grad(lambda q: grad(attend)(q).sum())(q)
    with pytest.raises(NotImplementedError, match="^blockwise does not support forward-mode derivatives: "):
        torch.func.jvp(attend, (q,), (q,))


@pytest.mark.parametrize("name", COMPILING)
def test_kernels_that_compile_refuse_a_transform_by_name(name: str) -> None:
    refusal = f"^kernel '{name}' does not support torch.func's transforms: compile the transformed function instead$"
    q, k, v = three_items(make, 8)
    with pytest.raises(NotImplementedError, match=refusal):
        vmap(KERNELS[name])(q, k, v)
    with pytest.raises(NotImplementedError, match=refusal):
        grad(lambda q: KERNELS[name](q, k[0], v[0]).sum())(q[0])


def every_request() -> Iterator[Any]:
    for name, kernel in KERNELS.items():
        can = kernel.capabilities
        for kind in (None, *KINDS):
            for causal in (False, True):
                asked: dict[str, Any] = {"mask": kind, "causal": causal, "grouped": False, "dtype": torch.float32}
                if can.lacks(**asked, device="cpu", window=None if can.windowless else 5) is None:
                    yield pytest.param(name, kind, causal, id=f"{name}-{kind}-{'causal' if causal else 'full'}")


REQUESTS = list(every_request())


def options_of(name: str) -> dict[str, Any]:
    return {} if KERNELS[name].capabilities.windowless else {"window": 5}


@pytest.mark.parametrize(("name", "kind", "causal"), REQUESTS)
@pytest.mark.parametrize("keys", [8, 40])
def test_fake_tensors_give_the_shape_without_data(name: str, kind: str | None, *, causal: bool, keys: int) -> None:
    kernel, mode = KERNELS[name], FakeTensorMode()
    backward = kernel.capabilities.backward and name != "flex"
    q, k, v = (mode.from_tensor(t.detach()).requires_grad_(backward) for t in make(2, 4, 8, keys, 16, value_size=16))
    hidden = None if kind is None else mode.from_tensor(make_mask(kind, 8, keys))
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


@pytest.mark.parametrize(("name", "kind", "causal"), [r for r in REQUESTS if r.values[0] in EXPORTED_ALIKE])
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


@pytest.mark.parametrize("name", sorted({request.values[0] for request in REQUESTS} - EXPORTED_ALIKE))
def test_any_other_kernel_is_exported_or_refuses_by_name(name: str) -> None:
    tokens = Dim("tokens")
    attention, inputs = Attention(name, causal=name != "manual"), [t.detach() for t in make(2, 4, 24, 24, 8)]
    if name in COUNTS_ARE_FIXED:
        with pytest.raises(NotImplementedError, match=f"^kernel '{name}' does not support a number of tokens that is "):
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
