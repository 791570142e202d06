"""Pairs of processes: what one of them says, how many are needed, and what happens where processes differ."""

import random
from dataclasses import replace
from math import log

import pytest

from bench.judging.judge import judge_case
from bench.judging.policy import Policy
from bench.judging.statistics import PairedTest, least_agreeing, median
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence, Measurement, Pair
from bench.twins.between import is_settled, joined, observation

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


@pytest.mark.parametrize(
    ("test", "needed"),
    [
        (PairedTest(log(1.05), alarm_level=1e-9, miss_level=0.5), 2),
        (Policy().test(1), 13),
        (Policy().test(213), 13),
    ],
)
def test_so_many_observations_are_needed_for_any_verdict(test: PairedTest, needed: int) -> None:
    assert least_agreeing(test.miss_level) == needed
    same = [bursts(1.0, noise=0.0)] * needed
    assert not is_settled(same[:-1], test)
    assert is_settled(same, test)


def compare(ratio: float, bias: float, *, test: PairedTest = TEST, most: int = 40, seed: int = 0) -> CaseResult:
    """Take pairs of processes, each with a bias of its own, until the rule is certain; then judge."""
    draw = random.Random(seed)

    def measured() -> Measurement:
        taken: list[Measurement] = []
        while len(taken) < most:
            taken.append(bursts(ratio * draw.gauss(1, bias), seed=draw.randrange(10**9)))
            if is_settled(taken, test):
                break
        return joined(taken, seconds=1.0)

    return judge_case(Evidence("c", measurements=(measured(), measured())), test)


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
