"""Bytes kept by calls: those that grow with every call, those that stay the same, and how they are counted."""

from collections.abc import Callable

import pytest
import torch

from bench.observing import leaks

SIZE = 1024 * 4


def bounded() -> Callable[[], object]:
    kept: list[torch.Tensor] = []

    def call() -> None:
        if len(kept) < 5:
            kept.append(torch.ones(1024))

    return call


def cyclic() -> None:
    ring: list[object] = [torch.ones(1024)]
    ring.append(ring)


@pytest.mark.parametrize("compiled", [False, True])
def test_each_way_of_keeping_is_told_apart(compiled: bool) -> None:
    kept: list[torch.Tensor] = []
    last: dict[str, torch.Tensor] = {}

    def told(call: Callable[[], object]) -> tuple[int | None, int | None]:
        return leaks.kept(call, leaks.counting(on_gpu=False, compiled=compiled))

    assert told(lambda: kept.append(torch.ones(1024))) == (SIZE, None)
    assert told(bounded()) == (None, 5 * SIZE)
    assert told(lambda: torch.ones(1024)) == (None, None)
    assert told(cyclic) == (None, None)
    assert told(lambda: last.update(one=torch.ones(1024))) == (None, SIZE)


def test_on_cuda_the_allocator_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = [0]
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: alive[0])

    def call() -> None:
        alive[0] += 512

    assert leaks.kept(call, leaks.by_device) == (512, None)
    assert leaks.kept(lambda: None, leaks.by_device) == (None, None)
