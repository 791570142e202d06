"""The measuring loop on a fake clock: what is counted, what is not, and in which order."""

import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import log1p

import pytest

from bench.judging.policy import Policy
from bench.judging.statistics import Change, PairedTest
from bench.plain.collecting import no_garbage_collection
from bench.plain.evidence import Measurement, Pair
from bench.timing.clock import Clock
from bench.timing.measure import (
    BURST_NS,
    WARMUP_ROUNDS,
    Never,
    StoppingRule,
    burst_of,
    measure,
)

from .conftest import StopAfter

STARTED_NS = 10**12  # what a clock shows at the start is no part of what it measures


@dataclass
class Machine:
    """A clock that moves only when a call says so, and a log of what happened."""

    now: int = STARTED_NS
    resolution_ns: float = 1.0
    log: list[str] = field(default_factory=list)

    def call(self, name: str, ns: int | Callable[[int], float]) -> Callable[[], None]:
        """Return a call that takes so long, or what the number of the calls before it says."""
        calls = count()

        def run() -> None:
            self.log.append(name)
            self.now += int(ns(next(calls)) if callable(ns) else ns)

        return run

    def timed(
        self,
        base: Callable[[], None],
        head: Callable[[], None],
        rule: StoppingRule,
        budget_s: float = 9.0,
        order: random.Random | None = None,
    ) -> Measurement:
        """Measure two calls by the clock, against which the budget is held too."""
        clock = Clock(lambda: self.now, lambda: self.log.append("sync"), self.resolution_ns)
        return measure(
            burst_of(base, clock),
            burst_of(head, clock),
            rule=rule,
            budget_s=budget_s,
            order=order or random.Random(0),
            resolution_ns=clock.resolution_ns,
            now_ns=clock.now_ns,
        )


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_pairs_hold_the_true_time_per_call_of_each_side(machine: Machine) -> None:
    result = machine.timed(machine.call("base", 40_000), machine.call("head", 50_000), StopAfter(7))
    assert [(p.base_ns_per_call, p.head_ns_per_call) for p in result.pairs] == [(40_000, 50_000)] * 7
    assert result.pairs[0].log_ratio > 0  # the head is slower
    assert result.seconds == pytest.approx((machine.now - STARTED_NS) * 1e-9)


@pytest.mark.parametrize(
    ("ns", "resolution_ns", "calls"),
    [
        (1, 1.0, BURST_NS),
        (10, 1.0, BURST_NS // 10),
        (1000, 1000.0, 1000),
        (BURST_NS * 2 // 5, 1.0, 3),
        (BURST_NS, 1.0, 1),
        (50 * BURST_NS, 1.0, 1),
        (BURST_NS, 5_000.0, 5_000_000 // BURST_NS),
    ],
)
def test_a_burst_is_long_enough_for_the_clock(ns: int, resolution_ns: float, calls: int) -> None:
    machine = Machine(resolution_ns=resolution_ns)
    side = machine.call("side", ns)
    assert machine.timed(side, side, StopAfter(1)).calls_per_burst == calls
    assert calls * ns >= max(BURST_NS, 1000 * resolution_ns)


def test_a_call_that_the_clock_cannot_see_takes_a_nanosecond(machine: Machine) -> None:
    side = machine.call("side", 0)
    result = machine.timed(side, side, StopAfter(1))
    assert (result.calls_per_burst, result.pairs) == (BURST_NS, (Pair(1.0, 1.0),))


def test_a_coin_of_its_own_decides_the_order_of_each_pair(machine: Machine) -> None:
    machine.timed(
        machine.call("base", BURST_NS), machine.call("head", BURST_NS), StopAfter(400), 99.0, random.Random(3)
    )
    calls = [name for name in machine.log if name != "sync"][6:]  # one untimed call a side and two rounds of warming up
    assert all({a, b} == {"base", "head"} for a, b in zip(calls[0::2], calls[1::2], strict=True))
    first = calls[0::2]
    assert 160 <= first.count("base") <= 240  # a fair coin is outside with probability below 0.01%
    same = sum(a == b for a, b in zip(first[0::2], first[1::2], strict=True))
    assert 70 <= same <= 130  # as before, of pairs of tosses


# How much longer a burst takes than the one before it or after it in its pair, from pair to pair.
DRIFTS: dict[str, Callable[[int], float]] = {
    "first burst slow": lambda _: 1.1,
    "first and second burst slow in turns": lambda pair: 1.1 if pair % 2 else 1 / 1.1,
    "slow for a while, then fast": lambda pair: 1.1 if pair // 9 % 2 else 1 / 1.1,
    "getting slower": lambda pair: 1.06 + pair / 500,
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_unchanged_code_is_called_slower_no_more_often_than_the_level_however_the_machine_drifts(drift: str) -> None:
    level, order = 0.05, random.Random(4)
    rule = PairedTest(log1p(0.05), alarm_level=level, miss_level=1e-9)

    def alarm() -> bool:
        def ns(burst: int) -> float:
            pair, second = divmod(burst - 6, 2)  # after one untimed call a side and two rounds of warming up
            return BURST_NS if pair < 0 or second else BURST_NS * DRIFTS[drift](pair)

        machine = Machine()
        side = machine.call("side", ns)
        taken = machine.timed(side, side, rule, 60 * 2 * BURST_NS * 1e-9, order)
        return rule.decide(sorted(pair.log_ratio for pair in taken.pairs)) is Change.SLOWER

    assert sum(alarm() for _ in range(300)) <= 25  # 15 are expected at most; 26 or more have probability below 1%


def test_queued_work_is_waited_for_before_the_clock_is_read_at_either_end(machine: Machine) -> None:
    side = machine.call("side", BURST_NS)
    machine.timed(side, side, StopAfter(1))
    assert machine.log == ["sync", "side", "sync"] * 8  # the untimed calls, two rounds of warming up, and one pair


def test_calls_of_seconds_that_the_budget_cannot_decide_are_made_once(machine: Machine) -> None:
    taken = machine.timed(machine.call("base", 10**10), machine.call("head", 2 * 10**10), Policy().test(1), 30.0)
    assert taken.pairs == (Pair(1e10, 2e10),)
    assert machine.log == ["sync", "base", "sync", "sync", "head", "sync"]


def slow_once(call: int) -> float:
    """Take four times as long at the call that is half of the third pair."""
    return BURST_NS * (4 if call == 11 else 1)


@pytest.mark.parametrize(
    ("rule", "ns", "budget_ns", "pairs"),
    [
        (StopAfter(5), lambda _: BURST_NS, 9e9, 5),  # the rule is certain
        (Never(), lambda _: BURST_NS, 20 * BURST_NS, 7),  # the budget is spent
        (Never(), lambda _: BURST_NS, 0.0, 1),
        # A budget that cannot suffice for the least pairs, which are 13, is left to others after the first pair.
        (Policy().test(1), lambda _: BURST_NS // 10, 12 * 2 * BURST_NS, 1),
        (Policy().test(1), lambda _: BURST_NS // 10, 40 * 2 * BURST_NS, 13),
        # First calls may take twice as long as later ones; if they take longer, they are the only pair.
        (Policy().test(1), lambda call: BURST_NS * (2 if call < 2 else 1), 18 * 2 * BURST_NS, 13),
        (Policy().test(1), lambda call: BURST_NS * (3 if call < 2 else 1), 18 * 2 * BURST_NS, 1),
        # One that seemed to suffice is spent though a later pair is slow, and 13 pairs as slow as that would take more.
        (Policy().test(1), slow_once, 22 * 2 * BURST_NS, 18),
    ],
)
def test_measuring_stops_when_the_rule_is_certain_or_the_budget_is_spent_or_cannot_suffice(
    machine: Machine, rule: StoppingRule, ns: Callable[[int], float], budget_ns: float, pairs: int
) -> None:
    side = machine.call("side", ns)
    assert len(machine.timed(side, side, rule, budget_ns * 1e-9).pairs) == pairs


@pytest.mark.parametrize(
    ("ns", "rounds"),
    [
        (lambda call: 10**9 if call == 0 else BURST_NS, 2),  # the first call of each side is not timed at all
        (lambda call: max(BURST_NS, (5 - call) * BURST_NS), 5),  # rounds that still get faster are no pairs
        (lambda call: 10**9 * 0.96**call, 2),  # hardly faster
        (lambda call: 10**9 * 0.94**call, WARMUP_ROUNDS),  # each round is faster
    ],
)
def test_warming_up_ends_when_a_round_is_hardly_faster_and_is_not_measured(
    machine: Machine, ns: Callable[[int], float], rounds: int
) -> None:
    result = machine.timed(machine.call("base", ns), machine.call("head", ns), StopAfter(1))
    assert result.warmup_rounds == rounds
    calls = 1 + rounds  # of each side before the pair
    assert result.calls_per_burst == 1
    assert result.pairs == (Pair(int(ns(calls)), int(ns(calls))),)


def test_the_rule_sees_the_log_ratios_sorted(machine: Machine) -> None:
    noise, seen = random.Random(0), list[list[float]]()

    class Watch:
        least_pairs = 1

        def is_certain(self, ordered: Sequence[float]) -> bool:
            seen.append(list(ordered))
            return len(ordered) >= 20

    jitter = machine.call("side", lambda _: noise.randrange(BURST_NS, 2 * BURST_NS))
    assert machine.timed(jitter, jitter, Watch()).ordered == seen[-1]
    assert len(seen[-1]) == 20
    assert all(ordered == sorted(ordered) for ordered in seen)


def test_garbage_is_not_collected_inside_and_again_afterwards_even_after_a_crash() -> None:
    before, states = gc.get_threshold(), []

    def crash() -> None:
        with no_garbage_collection():
            gc.disable()
            gc.enable()  # as code that is timed may do
            states.append(gc.get_threshold()[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash()
    assert states == [0]
    assert gc.get_threshold() == before
