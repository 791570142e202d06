"""Bytes kept by calls: those that grow with every call, those that stay the same, and how they are counted."""

from collections.abc import Callable

import pytest
import torch

from bench.observing import leaks

SIZE = 1024 * 4


def appending() -> Callable[[], object]:
    kept: list[torch.Tensor] = []
    return lambda: kept.append(torch.ones(1024))


def replacing() -> Callable[[], object]:
    kept: dict[str, torch.Tensor] = {}
    return lambda: kept.update(last=torch.ones(1024))


def bounded() -> Callable[[], object]:
    kept: list[torch.Tensor] = []

    def call() -> None:
        if len(kept) < 5:
            kept.append(torch.ones(1024))

    return call


def cyclic() -> None:
    ring: list[object] = [torch.ones(1024)]
    ring.append(ring)


@pytest.mark.parametrize("grown", [leaks.by_tensors(), leaks.by_profile])
def test_each_way_of_keeping_is_told_apart(grown: leaks.Grown) -> None:
    assert leaks.kept(appending(), grown) == (SIZE, None)
    assert leaks.kept(bounded(), grown) == (None, 5 * SIZE)
    assert leaks.kept(lambda: torch.ones(1024), grown) == (None, None)
    assert leaks.kept(cyclic, grown) == (None, None)


def test_one_that_is_replaced_stays_once() -> None:
    assert leaks.kept(replacing(), leaks.by_tensors()) == (None, SIZE)


def test_on_cuda_the_allocator_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = [0]
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: alive[0])

    def call() -> None:
        alive[0] += 512

    assert leaks.kept(call, leaks.by_device) == (512, None)
    assert leaks.kept(lambda: None, leaks.by_device) == (None, None)
