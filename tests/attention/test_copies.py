"""Kernels, modules and caches that are pickled, saved or copied, as worker processes and checkpoints do it."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from attention import (
    KERNELS,
    KVCache,
    MultiHeadAttention,
    MultiHeadAttentionLoop,
    TinyTransformer,
    TransformerBlock,
    registry,
)
from attention.registry import Capabilities, Kernel


def saved_and_loaded(thing: Any) -> Any:
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),  # noqa: S301  # its own
    "torch.save": saved_and_loaded,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@every_way
def test_a_kernel_comes_back_as_the_registered_one(way: Callable[[Any], Any]) -> None:
    for kernel in KERNELS.values():
        assert way(kernel) is kernel


@every_way
@pytest.mark.parametrize(
    "module",
    [
        MultiHeadAttention(8, 2),
        MultiHeadAttentionLoop(8, 2, kernel="blockwise"),
        TransformerBlock(8, 2, n_kv_heads=1),
        TinyTransformer(5, 8, 4, n_heads=2, n_layers=2),
    ],
    ids=lambda module: type(module).__name__,
)
def test_a_module_comes_back_with_its_weights_and_gives_the_same(module: Any, way: Callable[[Any], Any]) -> None:
    x = torch.arange(4)[None] if isinstance(module, TinyTransformer) else torch.randn(1, 4, 8)
    again = way(module)
    assert torch.equal(again(x), module(x))
    kernels = [[m.kernel for m in of.modules() if hasattr(m, "kernel")] for of in (again, module)]
    assert [id(k) for k in kernels[0]] == [id(k) for k in kernels[1]]


@pytest.mark.parametrize("way", [WAYS[name] for name in ("pickle", "torch.save", "deepcopy")])
def test_a_cache_comes_back_with_its_tokens_and_memory_of_its_own(way: Callable[[Any], Any]) -> None:
    cache = KVCache(1, 1, 4, 2)
    cache.append(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2))
    again = way(cache)
    cache.truncate(0)
    cache.append(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))
    assert (again.length, again.capacity) == (3, 4)
    assert torch.equal(again.keys, torch.ones(1, 1, 3, 2))


def test_a_kernel_that_is_not_registered_says_so_when_it_is_pickled() -> None:
    mine = Kernel("mine", KERNELS["sdpa"].function, Capabilities())
    for kernel in (mine, Kernel("sdpa", mine.function, mine.capabilities)):  # a name alone is not being registered
        with pytest.raises(pickle.PicklingError, match=f"^kernel '{kernel.name}' is not in KERNELS, .*: register it$"):
            pickle.dumps(kernel)
        assert copy.deepcopy(kernel) is kernel


def test_a_kernel_that_nobody_registers_where_it_is_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(KERNELS["masked"])
    monkeypatch.setattr(registry, "KERNELS", {name: kernel for name, kernel in KERNELS.items() if name != "masked"})
    with pytest.raises(ValueError, match="^no kernel is named 'masked'; there are blockwise, "):
        pickle.loads(pickled)  # noqa: S301  # likewise
