"""CUDA: what is particular to it on a fake device, and the real thing where there is one."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

import attention
from bench import environment
from bench.cases import Case, Shape, matrix
from bench.gate import Gate
from bench.measure import Clock, measure
from bench.sides import Side
from bench.verdict import Policy, Verdict


@dataclass(frozen=True)
class Once:
    def is_certain(self, ordered: Sequence[float]) -> bool:
        return True


def test_on_cuda_the_clock_waits_for_queued_kernels_before_and_after_every_burst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronize"))
    clock = Clock.of("cuda")
    measure(
        lambda: log.append("launch"),
        lambda: log.append("launch"),
        clock=Clock(lambda: len(log) * 10**6, clock.synchronize),
        rule=Once(),
        budget_s=1,
        order=random.Random(0),
    )
    timed = log[2:]  # after one untimed call a side
    assert timed
    assert [timed[i : i + 3] for i in range(0, len(timed), 3)] == [["synchronize", "launch", "synchronize"]] * (
        len(timed) // 3
    )


def test_memory_on_cuda_is_the_device_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (123, 456))
    assert environment.available_bytes("cuda") == 123


def test_cuda_cases_appear_only_where_there_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert environment.present_devices() == ("cpu", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert environment.present_devices() == ("cpu",)


@pytest.mark.cuda
def test_every_kernel_is_inside_its_budget_on_cuda() -> None:
    head = Side.of("head", attention)
    for case, unsupported in matrix(head.kernels, head.modules, "smoke", ("cuda",)).items():
        if unsupported is None:
            errors = Gate(head, None).check(case).evidence.errors
            assert [c for e in errors for c in e.complaints] == [], case.id


@pytest.mark.cuda
def test_unchanged_code_is_unchanged_on_cuda() -> None:
    head = Side.of("head", attention)
    case = Case("sdpa", False, Shape.parse("b1h8t512d64"), "causal", "fp16", "cuda", "fwd")
    assert Gate(head, head).compare(case, Policy().test(100), budget_s=10).verdict is Verdict.UNCHANGED
