"""The kernel that decodes: what each step is given, what it takes, and what it refuses."""

import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attention import KERNELS
from bench.observing.fingerprint import fingerprint

from .conftest import make

DECODE = KERNELS["decode"]


@pytest.mark.parametrize(
    ("queries", "causal", "sizes"),
    [
        (6, True, [(3, 6), (1, 7), (1, 8), (1, 9)]),
        (5, True, [(2, 6), (1, 7), (1, 8), (1, 9)]),
        (4, False, [(2, 9), (1, 9), (1, 9)]),
        (1, True, [(1, 9)]),
        (1, False, [(1, 9)]),
    ],
)
def test_half_of_the_queries_come_first_and_each_step_sees_views_of_one_cache(
    queries: int, causal: bool, sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Tensor, Tensor, Tensor]] = []
    sdpa = KERNELS["sdpa"]

    def spy(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        given.append((q, k, v))
        return sdpa.function(q, k, v, **options)

    monkeypatch.setattr(sys.modules["attention.decode"], "sdpa", replace(sdpa, function=spy))
    q, k, v = (t.detach() for t in make(queries=queries, keys=9, kv_heads=2))
    torch.testing.assert_close(DECODE(q, k, v, causal=causal), sdpa(q, k, v, causal=causal))
    assert [(each.shape[2], keys.shape[2]) for each, keys, _ in given] == sizes
    assert len({(keys.data_ptr(), values.data_ptr()) for _, keys, values in given}) == 1


@torch.no_grad()
def test_steps_copy_each_key_and_value_once() -> None:
    q, k, v = (t.detach() for t in make(1, 2, 6, 2048, kv_heads=2))
    executed = fingerprint(lambda: DECODE(q, k, v, causal=True))
    assert executed.peak_bytes < 1.25 * (k.nbytes + v.nbytes)


def test_a_caller_may_be_compiled_with_the_cache_inside() -> None:
    torch.compiler.reset()
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 3, 8)
    attend = torch.compile(KERNELS["decode"], backend="eager", fullgraph=True)
    torch.testing.assert_close(attend(q, k, k), KERNELS["decode"](q, k, k))
    torch.compiler.reset()
