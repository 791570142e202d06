"""A worker: what it loads or refuses, what a burst consists of, and a side that writes to its inputs."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import attention
from bench.observing import states
from bench.plain.errors import CannotDo
from bench.sources.target import ATTENTION, Target
from bench.sources.world import Lent, World
from bench.suite.cases import Case, Shape
from bench.suite.code import of_name
from bench.suite.forked import starts_of
from bench.suite.matrix import ROWS
from bench.suite.side import Side
from bench.suite.sides import notes_of
from bench.suite.slowing import slowed_on_gpu
from bench.suite.worker import Start, Worker
from bench.suite.workload import build
from bench.timing.clock import Clock
from bench.timing.measure import Never
from bench.twins.bursts import SPINNING, measure_bursts
from bench.twins.fork import fork_to_serve
from bench.twins.party import Local, Misbehaved, SideFailed

Kernel = Callable[..., Tensor]
WORKLOAD = build(Case("k", False, Shape.parse("b1h2t8d4"), "full", "fp32", "cpu", "fwd"), {})


def fine(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
    return q + 0


def writes(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
    q.data.add_(1)
    return q + 0


def raises(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
    raise RuntimeError("cannot")


def worker(label: str, kernel: Kernel) -> Worker:
    """A worker that has taken up the workload, as a process does that read it from a file."""
    made = Worker(Side(label, {"k": kernel}, {}))
    made.take(deepcopy(WORKLOAD))
    return made


@pytest.mark.parametrize("warm", [False, True])
def test_a_burst_follows_an_untimed_call_where_the_other_process_has_had_the_caches(warm: bool) -> None:
    calls: list[None] = []

    def counted(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
        calls.append(None)
        return q

    timed = worker("head", counted)
    timed._warm = warm
    timed.settle(())
    assert timed.burst(3) > 0
    assert len(calls) == 3 + warm


def test_a_side_that_has_set_more_threads_is_timed_with_as_many_as_were_asked_for() -> None:
    made, before = worker("head", fine), torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        made.settle(())
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("who", ["base", "head"])
@pytest.mark.parametrize(
    ("how", "said"), [(raises, "raised RuntimeError: cannot"), (writes, "wrote to its inputs while it was timed")]
)
def test_a_side_that_fails_while_it_is_timed_is_named_and_neither_stays_on_the_core_that_it_was_timed_on(
    how: Kernel, said: str, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[Sequence[int]] = []
    monkeypatch.setattr("bench.suite.worker.pin", pinned.append)
    base, head = (Local(label, worker(label, how if label == who else fine)) for label in ("base", "head"))
    with pytest.raises(SideFailed, match=f"^{who} {said}$"):
        measure_bursts(base, head, Never(), 0.01, cores=((1,), (0, 1)))
    assert pinned[:2] == [(1,), (1,)]
    assert pinned[-2:] == [(0, 1), (0, 1)]


def test_what_a_side_writes_in_its_check_is_found_though_it_raises_afterwards() -> None:
    def writes_and_raises(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
        q.data.add_(1)
        raise ValueError("on purpose")

    checked = Worker(Side("head", {"k": writes_and_raises}, {}))
    with pytest.raises(Misbehaved, match="^wrote to its inputs$"):
        checked.check(deepcopy(WORKLOAD), None)


def test_its_ids_are_those_of_the_cases_that_it_can_run_and_its_subjects_are_all_that_it_has() -> None:
    side = Side("base", {"manual": attention.KERNELS["manual"]}, {"mha": attention.MODULES["mha"]})
    ids, subjects = Worker(side).ids("smoke", ("cpu",), ROWS)
    assert subjects == {"manual", "mha"}
    assert {id_.partition("-")[0] for id_ in ids} == subjects
    assert "manual-b1h4t64d32-full-fp32-cpu-fwd" in ids
    assert "manual-b1h4t64d32-causal-fp32-cpu-fwd" not in ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise ValueError('broken on purpose')\n", "does not import (ValueError: broken on purpose)"),
        ("raise SystemExit(0)\n", "does not import (SystemExit: 0)"),
        ("x = 1\n", "the base has no attention.KERNELS: choose a base that registers some"),
    ],
)
def test_a_base_that_cannot_stand_alone_is_refused_in_one_sentence(
    package: Callable[..., Path], tmp_path: Path, text: str, message: str
) -> None:
    base = of_name(ATTENTION, str(package(__init__=text)), tmp_path)
    start = starts_of({"base": base}, ATTENTION, ("cpu",), 1, tmp_path)["base"]
    side = fork_to_serve("base", Worker)
    try:
        with pytest.raises(CannotDo) as refused:
            side.ask("load", start)
    finally:
        side.close()
    assert message in str(refused.value)
    assert ": choose a base that " in str(refused.value)


def test_a_gpu_that_serves_one_process_alone_is_told_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nmore")

    monkeypatch.setattr(World, "enter", lambda _: Lent())
    monkeypatch.setattr(torch, "empty", busy)
    start = Start("base", "here", World(tmp_path), Target(("theirs_gpu:attend",)), ("cpu", "cuda"), 1, tmp_path)
    with pytest.raises(CannotDo, match=r"^the base gets no context on the GPU \(CUDA error: .* unavailable\); in ex"):
        Worker().load(start)


def test_what_the_import_of_a_side_leaves_changed_is_said_of_each_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def imported(*_: object) -> Side:
        torch.set_grad_enabled(False)
        return Side("head", {"k": fine}, {})

    monkeypatch.setattr(World, "enter", lambda _: Lent())
    monkeypatch.setattr("bench.suite.worker.load", imported)
    start = Start("head", "here", World(tmp_path), Target(("theirs_import:k",)), ("cpu",), 1, tmp_path)
    made = Worker()
    with states.watching():  # which turns it back
        made.load(start)
        calls = made.check(deepcopy(WORKLOAD), None).fingerprint.calls
    assert calls is not None
    assert calls.left_changed == ("the gradient mode (by its import)",)


def test_what_a_clock_has_to_say_is_said_once_for_both_sides() -> None:
    clock = replace(Clock.of("cpu"), notes=("the GPU was throttled",))  # type: ignore[type-var]  # the host's is one
    base, head = (Worker(Side(label, {"k": fine}, {}), lambda _: clock) for label in ("base", "head"))
    parties = Local("base", base), Local("head", head)
    assert notes_of(*parties, None) == ()  # nothing was timed yet
    for made in (base, head):
        made.take(deepcopy(WORKLOAD))
        made.settle(())
    assert notes_of(*parties) == ("the GPU was throttled",)


def test_work_is_added_to_a_call_on_a_gpu_by_a_kernel_that_waits_as_long_as_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ns = 0.0

    def takes(ns: float) -> None:
        nonlocal now_ns
        now_ns += ns

    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: takes(1.7 * cycles), raising=False)
    clock = Clock(lambda: round(now_ns), lambda: None)

    def cost(share: float) -> float:
        return clock.burst(slowed_on_gpu(lambda: takes(50_000), share, clock), 3)

    assert cost(0.0) == pytest.approx(50_000 * (1 + SPINNING), rel=1e-4)
    assert cost(0.05) / cost(0.0) == pytest.approx(1.05, rel=1e-4)
