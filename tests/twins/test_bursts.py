"""How parties are timed in turn: on which cores, and with what is added to them."""

import os
import random
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from bench.timing.measure import Never
from bench.twins import bursts
from bench.twins.bursts import measure_bursts, measure_twins, pin, stretched
from bench.twins.party import Local, SideFailed


@dataclass
class Side:
    """A side with a clock of a given resolution; it logs what a party asks of it, and may fail."""

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
    monkeypatch.setattr(random, "random", None)  # a kernel may seed it, so it must not decide the order
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


@pytest.mark.parametrize(("share", "took_ns"), [(0.0, 1100), (1.0, 2200)])
def test_a_burst_is_stretched_by_a_tenth_on_both_sides_and_by_the_share(
    monkeypatch: pytest.MonkeyPatch, share: float, took_ns: int
) -> None:
    now = count(100, 10)
    monkeypatch.setattr(bursts, "perf_counter_ns", lambda: next(now))
    assert stretched(1000, share) == pytest.approx(took_ns, abs=20)


def test_every_thread_is_bound_to_the_cores_though_another_has_ended_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: dict[int, Sequence[int]] = {}

    def bind(thread: int, cores: Sequence[int]) -> None:
        bound[thread] = cores
        raise ProcessLookupError

    monkeypatch.setattr(os, "sched_setaffinity", bind, raising=False)
    pin([])  # the system cannot choose
    assert bound == {}
    done = threading.Event()
    other = threading.Thread(target=done.wait, daemon=True)
    other.start()
    pin([1])
    assert bound == {int(path.name): [1] for path in Path("/proc/self/task").iterdir()}
    assert {threading.get_native_id(), other.native_id} <= bound.keys()
    done.set()
    other.join()
