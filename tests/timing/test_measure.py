"""The measuring loop on a fake clock: what is counted, what is not, and in which order."""

import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log1p

import pytest

from bench.judging.policy import Policy
from bench.judging.statistics import Change, PairedTest
from bench.plain.collecting import no_garbage_collection
from bench.plain.evidence import Measurement, Pair
from bench.timing.clock import Clock, Stopwatch
from bench.timing.measure import (
    BURST_NS,
    WARMUP_ROUNDS,
    Never,
    StoppingRule,
    burst_of,
    measure,
)

STARTED_NS = 10**12  # what a clock shows at the start is no part of what it measures


@dataclass
class Machine:
    """A clock that moves only when a call says so, and a log of what happened."""

    now: int = STARTED_NS
    log: list[str] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.log.append("sync"))

    def call(self, name: str, ns: int) -> Callable[[], None]:
        def run() -> None:
            self.log.append(name)
            self.now += ns

        return run


@dataclass(frozen=True)
class StopAfter:
    least_pairs = 1
    pairs: int

    def is_certain(self, ordered: Sequence[float]) -> bool:
        return len(ordered) >= self.pairs


def timed(
    base: Callable[[], None],
    head: Callable[[], None],
    *,
    clock: Stopwatch,
    rule: StoppingRule,
    budget_s: float,
    order: random.Random,
) -> Measurement:
    """Measure two calls by one clock, against which the budget is held too."""
    return measure(
        burst_of(base, clock),
        burst_of(head, clock),
        rule=rule,
        budget_s=budget_s,
        order=order,
        resolution_ns=clock.resolution_ns,
        now_ns=clock.now_ns,
    )


def test_pairs_hold_the_true_time_per_call_of_each_side() -> None:
    machine = Machine()
    base, head = machine.call("base", 40_000), machine.call("head", 50_000)
    result = timed(base, head, clock=machine.clock, rule=StopAfter(7), budget_s=9, order=random.Random(0))
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
    machine = Machine()
    side = machine.call("side", ns)
    clock = Clock(machine.clock.now_ns, machine.clock.synchronize, resolution_ns)
    result = timed(side, side, clock=clock, rule=StopAfter(1), budget_s=9, order=random.Random(0))
    assert result.calls_per_burst == calls
    assert calls * ns >= max(BURST_NS, 1000 * resolution_ns)


def test_a_call_that_the_clock_cannot_see_takes_a_nanosecond() -> None:
    side = Machine().call("side", 0)
    result = timed(side, side, clock=Machine().clock, rule=StopAfter(1), budget_s=9, order=random.Random(0))
    assert (result.calls_per_burst, result.pairs) == (BURST_NS, (Pair(1.0, 1.0),))


def test_each_side_is_called_untimed_before_anything_is_measured() -> None:
    machine = Machine()
    calls = {"base": 0, "head": 0}

    def cold(name: str) -> Callable[[], None]:
        def run() -> None:
            machine.now += 10**9 if calls[name] == 0 else BURST_NS
            calls[name] += 1

        return run

    result = timed(
        cold("base"), cold("head"), clock=machine.clock, rule=StopAfter(3), budget_s=99, order=random.Random(0)
    )
    assert all(p.base_ns_per_call == p.head_ns_per_call == BURST_NS for p in result.pairs)


def test_a_coin_of_its_own_decides_the_order_of_each_pair() -> None:
    machine = Machine()
    base, head = machine.call("base", BURST_NS), machine.call("head", BURST_NS)
    timed(base, head, clock=machine.clock, rule=StopAfter(400), budget_s=99, order=random.Random(3))
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
        machine, bursts = Machine(), [-6]  # of which one untimed call a side and two rounds of warming up

        def side() -> None:
            pair, second = divmod(bursts[0], 2)
            machine.now += BURST_NS if pair < 0 or second else int(BURST_NS * DRIFTS[drift](pair))
            bursts[0] += 1

        taken = timed(side, side, clock=machine.clock, rule=rule, budget_s=60 * 2 * BURST_NS * 1e-9, order=order)
        return rule.decide(sorted(pair.log_ratio for pair in taken.pairs)) is Change.SLOWER

    assert sum(alarm() for _ in range(300)) <= 25  # 15 are expected at most; 26 or more have probability below 1%


def test_queued_work_is_waited_for_before_the_clock_is_read_at_either_end() -> None:
    machine = Machine()
    side = machine.call("side", BURST_NS)
    timed(side, side, clock=machine.clock, rule=StopAfter(1), budget_s=9, order=random.Random(0))
    assert machine.log == ["sync", "side", "sync"] * 8  # the untimed calls, two rounds of warming up, and one pair


def test_measuring_stops_when_the_rule_is_certain_or_the_budget_is_spent() -> None:
    for rule, budget_s, pairs in ((StopAfter(5), 9.0, 5), (Never(), 20 * BURST_NS * 1e-9, 7), (Never(), 0.0, 1)):
        machine = Machine()
        side = machine.call("side", BURST_NS)
        result = timed(side, side, clock=machine.clock, rule=rule, budget_s=budget_s, order=random.Random(0))
        assert len(result.pairs) == pairs


def test_a_budget_that_cannot_suffice_is_left_to_others_after_the_first_pair() -> None:
    rule = Policy().test(1)  # which takes 13 pairs at least
    for affordable, pairs in ((12, 1), (40, rule.least_pairs)):
        machine = Machine()
        side = machine.call("side", BURST_NS // 10)
        budget_s = affordable * 2 * BURST_NS * 1e-9
        result = timed(side, side, clock=machine.clock, rule=rule, budget_s=budget_s, order=random.Random(0))
        assert len(result.pairs) == pairs


def test_a_budget_that_seemed_to_suffice_is_spent_though_a_later_pair_is_slow() -> None:
    machine, rule = Machine(), Policy().test(1)

    def slow_once() -> None:
        machine.log.append("call")
        machine.now += 4 * BURST_NS if len(machine.log) == 12 else BURST_NS

    budget_s = 22 * 2 * BURST_NS * 1e-9  # and 13 pairs as slow as that one take more
    clock = Clock(lambda: machine.now, lambda: None)
    result = timed(slow_once, slow_once, clock=clock, rule=rule, budget_s=budget_s, order=random.Random(0))
    assert len(result.pairs) >= rule.least_pairs


def test_rounds_that_still_get_faster_are_warm_up_and_not_pairs() -> None:
    machine = Machine()
    calls = {"base": 0, "head": 0}

    def warming(name: str) -> Callable[[], None]:
        def run() -> None:
            calls[name] += 1
            machine.now += max(BURST_NS, 6 * BURST_NS - calls[name] * BURST_NS)

        return run

    sides = warming("base"), warming("head")
    result = timed(*sides, clock=machine.clock, rule=StopAfter(3), budget_s=9, order=random.Random(0))
    assert result.warmup_rounds == 5
    assert {(p.base_ns_per_call, p.head_ns_per_call) for p in result.pairs} == {(BURST_NS, BURST_NS)}


@pytest.mark.parametrize(("faster", "rounds"), [(0.04, 2), (0.06, WARMUP_ROUNDS)])
def test_a_round_that_is_hardly_faster_ends_the_warm_up(faster: float, rounds: int) -> None:
    machine = Machine()

    def side() -> None:
        machine.now += int(10**9 * (1 - faster) ** (len(machine.log) // 2))
        machine.log.append("call")

    clock = Clock(lambda: machine.now, lambda: None)
    result = timed(side, side, clock=clock, rule=StopAfter(1), budget_s=9, order=random.Random(0))
    assert result.warmup_rounds == rounds


def test_warming_up_ends_even_if_every_round_is_faster() -> None:
    machine = Machine()

    def ever_faster() -> None:
        machine.now += 10**12 // (1 + len(machine.log)) ** 2
        machine.log.append("call")

    result = timed(ever_faster, ever_faster, clock=machine.clock, rule=StopAfter(1), budget_s=9, order=random.Random(0))
    assert result.warmup_rounds == WARMUP_ROUNDS


def test_the_rule_sees_the_log_ratios_sorted() -> None:
    machine = Machine()
    noise = random.Random(0)
    seen: list[list[float]] = []

    class Watch:
        least_pairs = 1

        def is_certain(self, ordered: Sequence[float]) -> bool:
            seen.append(list(ordered))
            return len(ordered) >= 20

    def jitter() -> None:
        machine.now += noise.randrange(BURST_NS, 2 * BURST_NS)

    result = timed(jitter, jitter, clock=machine.clock, rule=Watch(), budget_s=9, order=random.Random(0))
    assert len(seen[-1]) == 20
    assert seen[-1] == result.ordered
    assert all(ordered == sorted(ordered) for ordered in seen)


def test_garbage_is_not_collected_inside_and_again_afterwards_even_after_a_crash() -> None:
    states: list[bool] = []

    def crash() -> None:
        with no_garbage_collection():
            states.append(gc.isenabled())
            raise ZeroDivisionError

    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        crash()
    assert states == [False]
    assert gc.isenabled()
    gc.disable()
    try:
        with no_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
