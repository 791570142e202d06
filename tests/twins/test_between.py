"""Several pairs of twins or processes: when a case is measured in another, and what happens where they differ."""

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from math import log

import pytest

from bench.judging.judge import judge_case
from bench.judging.policy import Policy
from bench.judging.statistics import PairedTest, least_agreeing, median
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence, Measurement, Pair
from bench.timing.measure import Never, StoppingRule
from bench.twins.between import (
    joined,
    measure_processes,
    measure_until_decided,
    note_of_processes,
    observation,
    replicate,
)

TEST = Policy().test(20)


def bursts(ratio: float, *, noise: float = 0.02, count: int = 9, seed: int = 0) -> Measurement:
    """The pairs of bursts of one pair of processes, between which the head is slower by a ratio."""
    jitter = random.Random(seed)
    return Measurement(tuple(Pair(1000.0, 1000.0 * ratio * jitter.gauss(1, noise)) for _ in range(count)), 10, 0.1)


@pytest.mark.parametrize(
    ("pairs", "base_ns", "ratio"),
    [
        ([(100.0, 110.0)], 100.0, 1.1),
        ([(100.0, 100.0), (100.0, 120.0), (100.0, 900.0)], 100.0, 1.2),
        ([(90.0, 99.0), (100.0, 110.0), (800.0, 880.0)], 100.0, 1.1),
    ],
)
def test_a_pair_of_processes_says_its_median_time_and_its_median_ratio(
    pairs: list[tuple[float, float]], base_ns: float, ratio: float
) -> None:
    seen = observation(Measurement(tuple(Pair(*p) for p in pairs), 1, 1.0))
    assert seen.base_ns_per_call == pytest.approx(base_ns)
    assert seen.log_ratio == pytest.approx(log(ratio))


def test_many_bursts_in_one_pair_of_processes_are_still_one_observation() -> None:
    measurements = [replace(bursts(1.0, count=count), calls_per_burst=count) for count in (500, 3, 4, 5)]
    whole = joined(measurements, seconds=2.5)
    assert len(whole.pairs) == 4
    assert whole.seconds == 2.5
    assert whole.calls_per_burst == 5  # all else is that of the last


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
    ("budget_s", "most", "least", "taken"),
    # certain, no more processes, no more time; no more time, but too few to decide
    [(99.0, 40, 1, 13), (99.0, 3, 9, 3), (5.0, 40, 1, 6), (0.0, 40, 1, 1), (0.0, 40, 9, 9), (0.0, 40, 26, 13)],
)
def test_pairs_of_processes_are_taken_until_the_test_is_certain_or_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, budget_s: float, most: int, least: int, taken: int
) -> None:
    processes = Processes(monkeypatch)
    measured = measure_processes(processes.measure_in, TEST, budget_s, most, least=least)
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


class Twins:
    """Pairs of twins, each of which shows a ratio of its own."""

    def __init__(self, *ratios: float) -> None:
        self.ratios = ratios
        self.asked: list[tuple[int, StoppingRule, float]] = []

    def measure_in(self, number: int, rule: StoppingRule, seconds: float) -> Measurement:
        self.asked.append((number, rule, seconds))
        return bursts(self.ratios[number], noise=0.001, count=200)


@pytest.mark.parametrize(
    ("ratios", "taken"),
    [((1.0,), 1), ((1.1, 1.1), 2), ((0.9, 0.9), 2), ((1.1, 1.0, 1.0), 3), ((1.1, 1.0, 1.1), 3), ((1.1, 0.9, 1.0), 3)],
)
def test_a_case_is_measured_in_further_twins_until_it_is_decided(ratios: Sequence[float], taken: int) -> None:
    twins = Twins(*ratios)
    assert len(measure_until_decided(twins.measure_in, TEST, 7.0)) == taken
    confirming = replace(TEST, confirming=True)
    assert twins.asked == [(number, confirming if number else TEST, 7.0) for number in range(taken)]


@pytest.mark.parametrize(("ratio", "replicated"), [(1.0, False), (1.08, True), (1.3, False)])
def test_a_slowdown_that_chance_could_explain_is_replicated_in_further_twins(ratio: float, *, replicated: bool) -> None:
    test = replace(TEST, replication_level=0.001)
    twins = Twins(*[ratio] * 50)
    measurements = measure_until_decided(twins.measure_in, test, 7.0)
    first = len(twins.asked)
    found = replicate(twins.measure_in, measurements, test, 7.0)
    assert (found is not None) is replicated
    if found is not None:
        further = len(found.pairs)
        assert twins.asked[first:] == [(first + number, test, 0.05 * 4 * 7.0) for number in range(further)]
        assert further == least_agreeing(0.001)


def test_a_replication_ends_by_its_budget_only_after_enough_twins_to_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Processes(monkeypatch)  # each takes a second

    def measure_in(number: int, rule: StoppingRule, seconds: float) -> Measurement:
        twins.ratio = 1.2 if number % 2 else 0.99  # so that nothing is decided
        return twins.measure_in(number, rule, seconds)

    slower = bursts(1.08, noise=0.001, count=200)
    found = replicate(measure_in, [slower, slower], replace(TEST, replication_level=0.001), 2.0)
    assert found is not None
    assert len(found.pairs) == 2 * TEST.least_pairs


def compare(ratio: float, bias: float, *, test: PairedTest = TEST, seed: int = 0) -> CaseResult:
    """Take pairs of processes, each with a bias of its own, until the rule is certain; then judge."""
    draw = random.Random(seed)

    def measure_in(*_: object) -> Measurement:
        return bursts(ratio * draw.gauss(1, bias), seed=draw.randrange(10**9))

    measured = (measure_processes(measure_in, test, 60.0, 40) for _ in range(2))
    return judge_case(Evidence("c", measurements=tuple(measured)), test)


@pytest.mark.parametrize("bias", [0.0, 0.01, 0.03, 0.1])
def test_unchanged_code_in_processes_that_differ_is_never_called_slower(bias: float) -> None:
    verdicts = [compare(1.0, bias, seed=seed).verdict for seed in range(60)]
    assert set(verdicts) <= {Verdict.UNCHANGED, Verdict.INCONCLUSIVE}
    assert bias > 0.03 or verdicts.count(Verdict.UNCHANGED) >= 55


@pytest.mark.parametrize("bias", [0.0, 0.01, 0.03])
def test_a_slowdown_of_30_percent_is_caught_however_processes_differ(bias: float) -> None:
    assert {compare(1.3, bias, seed=seed).verdict for seed in range(20)} == {Verdict.REGRESSED}


def test_bursts_of_one_pair_of_processes_would_call_its_bias_a_slowdown() -> None:
    biased = bursts(1.04, noise=0.01, count=60)
    assert judge_case(Evidence("c", measurements=(biased, biased)), TEST).verdict is Verdict.REGRESSED


def test_the_slowdown_that_could_have_been_seen_grows_with_what_differs_between_processes() -> None:
    def detectable(bias: float) -> float:
        found = [compare(1.0, bias, test=Policy().test(1), seed=seed).mde for seed in range(20)]
        assert None not in found
        return median(sorted(mde for mde in found if mde is not None))

    assert detectable(0.0) < detectable(0.01) < detectable(0.02)
    assert detectable(0.02) > detectable(0.0) + 0.01
