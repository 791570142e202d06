"""What people attach to modules acts: hooks, adapters, reparametrized, pruned and quantized weights."""

import copy
import re
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from attention import MODULES, MultiHeadAttention, TinyTransformer, tensor_parallel

D_MODEL, HEADS, TOKENS, VOCABULARY = 8, 2, 5, 7
BUILDERS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda cls=cls: cls(D_MODEL, HEADS) for name, cls in MODULES.items()},  # type: ignore[misc]  # its default
    "tiny": lambda: TinyTransformer(VOCABULARY, D_MODEL, TOKENS, n_heads=HEADS),
}
every_module = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


def randomized(build: Callable[[], nn.Module]) -> nn.Module:
    module, generator = build(), torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return module


def run(module: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if isinstance(module, TinyTransformer):
        x = torch.randint(VOCABULARY, (2, TOKENS), generator=generator)
    else:
        x = torch.randn(2, TOKENS, D_MODEL, generator=generator)
    out: Tensor = module(x, causal=True)
    return out


def owner_of(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The submodule that holds a parameter, and the parameter's name in it."""
    path, _, own = name.rpartition(".")
    return module.get_submodule(path), own


@pytest.mark.filterwarnings("ignore:Full backward hook is firing when:UserWarning")  # an embedding's input has none
@every_module
def test_hooks_of_every_submodule_run_forward_and_backward(build: Callable[[], nn.Module]) -> None:
    module = randomized(build)
    ran: set[tuple[str, str]] = set()
    parts = {name: part for name, part in module.named_modules() if not isinstance(part, nn.ModuleList)}
    for name, part in parts.items():
        part.register_forward_pre_hook(lambda *_, name=name: ran.add(("before", name)))
        part.register_forward_hook(lambda *_, name=name: ran.add(("after", name)))
        part.register_full_backward_hook(lambda *_, name=name: ran.add(("backward", name)))
    run(module).sum().backward()
    assert ran == {(when, name) for when in ("before", "after", "backward") for name in parts}


@every_module
def test_what_a_forward_hook_returns_takes_the_place_of_the_output(build: Callable[[], nn.Module]) -> None:
    plain = run(randomized(build))
    for name, part in randomized(build).named_modules():
        if next(part.children(), None) is None:
            module = randomized(build)
            module.get_submodule(name).register_forward_hook(lambda *given: given[-1] * 2)
            assert not torch.allclose(run(module), plain), name


class LowRank(nn.Module):
    """LoRA: the layer, and a product of two thin matrices beside it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.down, self.up = nn.Linear(layer.in_features, 2, bias=False), nn.Linear(2, layer.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x) + self.up(self.down(x))
        return out


@every_module
def test_adapter_in_place_of_a_layer_acts_as_merged_weights_do_and_is_trained(build: Callable[[], nn.Module]) -> None:
    names = [name for name, part in build().named_modules() if isinstance(part, nn.Linear)]
    assert any("out_proj" in name for name in names)
    for name in names:
        adapted, merged = randomized(build), randomized(build)
        parent, own = owner_of(adapted, name)
        layer = adapted.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        setattr(parent, own, adapter := LowRank(layer))
        weight: Any = merged.get_submodule(name).weight
        weight.data += adapter.up.weight.detach() @ adapter.down.weight.detach()
        out = run(adapted)
        torch.testing.assert_close(out, run(merged), rtol=1e-4, atol=1e-4)
        out.square().sum().backward()
        assert adapter.down.weight.grad is not None
        assert adapter.down.weight.grad.any()


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return 2 * x


def pruned_by_half(part: nn.Module, name: str) -> None:
    prune.custom_from_mask(part, name, (torch.arange(getattr(part, name).numel()) % 2).view_as(getattr(part, name)))


def old_weight_norm(part: nn.Module, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it is deprecated, and in use
        nn.utils.weight_norm(part, name)
    getattr(part, f"{name}_g").data *= 2


def weight_norm(part: nn.Module, name: str) -> None:
    parametrizations.weight_norm(part, name)
    part.parametrizations[name].original0.data *= 2  # type: ignore[index, union-attr]


WAYS: dict[str, tuple[Callable[[nn.Module, str], object], Callable[[Tensor], Tensor]]] = {
    "parametrization": (lambda part, name: parametrize.register_parametrization(part, name, Twice()), lambda t: 2 * t),
    "weight_norm": (weight_norm, lambda t: 2 * t),
    "old_weight_norm": (old_weight_norm, lambda t: 2 * t),
    "pruning": (pruned_by_half, lambda t: t * (torch.arange(t.numel()) % 2).view_as(t)),
}


@every_module
@pytest.mark.parametrize("way", WAYS)
def test_reparametrized_weights_act_as_plain_weights_of_that_value_and_are_trained(
    build: Callable[[], nn.Module], way: str
) -> None:
    attach, effect = WAYS[way]
    for name, parameter in build().named_parameters():
        if "weight_norm" in way and parameter.dim() < 2:
            continue
        attached, plain = randomized(build), randomized(build)
        attach(*owner_of(attached, name))
        plain.get_parameter(name).data = effect(plain.get_parameter(name).detach())
        out = run(attached)
        torch.testing.assert_close(out, run(plain), rtol=1e-4, atol=1e-4, msg=f"by {name}")
        out.square().sum().backward()
        assert all(p.grad is not None for p in attached.parameters()), name


@every_module
def test_a_parametrization_is_computed_once_a_call(build: Callable[[], nn.Module]) -> None:
    for name, _ in build().named_parameters():
        module, counting = randomized(build), Twice()
        part, own = owner_of(module, name)
        parametrize.register_parametrization(part, own, counting)
        counting.calls = 0
        run(module)
        assert counting.calls == 1, name


@every_module
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch's quantization
def test_dynamically_quantized_layers_are_the_ones_that_run(build: Callable[[], nn.Module]) -> None:
    module = randomized(build).eval()
    quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(module), {nn.Linear}, dtype=torch.qint8)
    replaced = [part for part in quantized.modules() if isinstance(part, torch.ao.nn.quantized.dynamic.Linear)]
    assert len(replaced) == sum(isinstance(part, nn.Linear) for part in module.modules())
    with torch.no_grad():
        got, want = run(quantized), run(module)
    assert not torch.equal(got, want)
    assert (got - want).square().mean() < 0.01 * want.square().mean()


@every_module
def test_a_module_built_in_inference_mode_is_trained_outside_of_it(build: Callable[[], nn.Module]) -> None:
    with torch.inference_mode():
        module = build()
    run(module).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("attach", "seen"),
    [
        (lambda m: m.register_forward_hook(print), "a hook on the module"),
        (lambda m: m.out_proj.register_full_backward_pre_hook(print), "a hook on out_proj"),
        (lambda m: setattr(m, "out_proj", LowRank(m.out_proj)), "out_proj.down.weight, out_proj.layer.bias, "),
        (lambda m: parametrizations.weight_norm(m, "in_proj_weight"), "parametrizations.in_proj_weight.original0, "),
        (lambda m: pruned_by_half(m.out_proj, "weight"), "a hook on out_proj, out_proj.weight_mask, out_proj.weight_o"),
    ],
)
def test_a_module_with_attachments_is_not_shared_out(attach: Callable[[Any], object], seen: str) -> None:
    module = MultiHeadAttention(D_MODEL, HEADS)
    attach(module)
    mesh: Any = SimpleNamespace(ndim=1, size=lambda: 1)
    with pytest.raises(NotImplementedError, match=f"^tensor_parallel does not share out .*; saw {re.escape(seen)}"):
        tensor_parallel(module, mesh)
