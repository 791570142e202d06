"""How parties are timed in turn: on which cores, for how long, and in how many pairs of processes."""

import os
import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from bench.judging.policy import Policy
from bench.plain.evidence import Measurement, Pair
from bench.timing.measure import Never, StoppingRule
from bench.twins import bursts
from bench.twins.between import measure_processes, note_of_processes
from bench.twins.bursts import measure_bursts, measure_twins, pin, stretched
from bench.twins.party import Local, SideFailed

TEST = Policy().test(1)  # which takes 13 pairs at least


@dataclass
class Side:
    """What a party asks: it has a clock of a resolution, notes what it is asked, and may fail."""

    resolution_ns: float = 1.0
    fails: bool = False
    log: list[tuple[str, Sequence[int]]] = field(default_factory=list)

    def settle(self, cores: Sequence[int]) -> float:
        self.log.append(("settle", cores))
        return self.resolution_ns

    def burst(self, calls: int) -> float:
        if self.fails:
            raise SideFailed("raised")
        return 1000.0

    def release(self, cores: Sequence[int]) -> None:
        self.log.append(("release", cores))


@pytest.mark.parametrize("resolutions_ns", [(1.0, 5000.0), (5000.0, 1.0)])
def test_both_sides_settle_on_the_cores_and_are_released_and_the_coarser_clock_sets_the_burst(
    monkeypatch: pytest.MonkeyPatch, resolutions_ns: tuple[float, float]
) -> None:
    monkeypatch.setattr(random, "random", None)  # the generator that a kernel may seed decides no order
    base, head = map(Side, resolutions_ns)
    parties = Local("base", base), Local("head", head)
    seconds = count(step=10**9)
    measured = measure_bursts(*parties, Never(), 0.0, cores=((1,), (0, 1)), now_ns=lambda: next(seconds))
    assert measured.calls_per_burst == 5000
    assert measured.seconds == 2.0  # the clock was read three times
    assert base.log == head.log == [("settle", (1,)), ("release", (0, 1))]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(("threads", "timed_on"), [(1, (64,)), (2, (3, 64)), (9, (1, 3, 64))])
def test_twins_and_this_process_share_the_last_cores_until_they_are_measured(
    monkeypatch: pytest.MonkeyPatch, threads: int, timed_on: Sequence[int], fails: bool
) -> None:
    bound: list[tuple[int, Sequence[int]]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0: {64, 1, 3}}[process], raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: bound.append((process, cores)), raising=False)
    base, head = Side(), Side(fails=fails)
    with pytest.raises(SideFailed) if fails else nullcontext():
        measure_twins(Local("base", base), Local("head", head), Never(), 0.0, threads)
    assert bound == [(0, timed_on), (0, (1, 3, 64))]
    assert base.log == head.log == [("settle", timed_on), ("release", (1, 3, 64))]


def test_twins_are_timed_on_any_core_where_the_system_cannot_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    base, head = Side(), Side()
    measure_twins(Local("base", base), Local("head", head), Never(), 0.0, 1)
    assert base.log == head.log == [("settle", ()), ("release", ())]


class Processes:
    """Pairs of processes, each of which takes a second and shows a ratio."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ratio: float = 1.0) -> None:
        self.now_s, self.ratio = 2.0, ratio
        self.asked: list[tuple[int, StoppingRule, float]] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)

    def measure_in(self, number: int, rule: StoppingRule, seconds: float) -> Measurement:
        self.asked.append((number, rule, seconds))
        self.now_s += 1.0
        return Measurement((Pair(1000.0, 1000.0 * self.ratio),) * 9, 10, 0.5)


@pytest.mark.parametrize(
    ("budget_s", "most", "taken"),
    [(99.0, 40, 13), (99.0, 3, 3), (5.0, 40, 6), (0.0, 40, 1)],  # certain, no more processes, no more time
)
def test_pairs_of_processes_are_taken_until_the_test_is_certain_or_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, budget_s: float, most: int, taken: int
) -> None:
    processes = Processes(monkeypatch)
    measured = measure_processes(processes.measure_in, TEST, budget_s, most)
    assert len(measured.pairs) == taken
    assert measured.seconds == taken
    assert [number for number, _, _ in processes.asked] == list(range(taken))
    assert {seconds for _, _, seconds in processes.asked} == {0.05 * budget_s}


def test_each_pair_of_processes_takes_nine_pairs_of_bursts_or_follows_the_rule_that_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processes, given = Processes(monkeypatch), Never()
    measure_processes(processes.measure_in, TEST, 0.0, 1)
    measure_processes(processes.measure_in, TEST, 0.0, 1, within=given)
    nine, other = (rule for _, rule, _ in processes.asked)
    assert [nine.is_certain([0.0] * pairs) for pairs in (8, 9, 10)] == [False, True, True]
    assert nine.least_pairs == 1
    assert other is given


def test_the_note_of_pairs_of_processes_says_what_fewer_of_them_cost() -> None:
    counted = "base and head ran in {} pairs of processes, each of which is one pair in the table"
    assert note_of_processes(39, 40) == (
        f"{counted.format(39)}: processes differ by some percent, so this sees less than a run in one"
    )
    assert note_of_processes(40, 40) == (
        f"{counted.format(40)}, and no case is given more: give a higher --gate-threshold for what is undecided"
    )


@pytest.mark.parametrize(("share", "took_ns"), [(0.0, 1100), (1.0, 2200)])
def test_a_burst_is_stretched_by_a_tenth_on_both_sides_and_by_the_share(
    monkeypatch: pytest.MonkeyPatch, share: float, took_ns: int
) -> None:
    now = count(100, 10)
    monkeypatch.setattr(bursts, "perf_counter_ns", lambda: next(now))
    assert stretched(1000, share) == pytest.approx(took_ns, abs=20)


def test_a_thread_that_ends_meanwhile_does_not_keep_the_others_from_their_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound: list[int] = []

    def bind(thread: int, _: Sequence[int]) -> None:
        if thread == 2:
            raise ProcessLookupError
        bound.append(thread)

    monkeypatch.setattr(Path, "iterdir", lambda _: iter([Path("1"), Path("2"), Path("3")]))
    monkeypatch.setattr(os, "sched_setaffinity", bind, raising=False)
    pin([0])
    assert bound == [1, 3]
