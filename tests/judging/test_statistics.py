"""The sequential test, from known answers and from simulated streams."""

import math
import random
from dataclasses import replace
from math import comb, log, log1p

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.judging.policy import Policy
from bench.judging.statistics import Change, PairedTest, confidence_interval, log_evidence, median, mixture_bound

TEST = PairedTest(threshold=log1p(0.05), alarm_level=1e-5, miss_level=1e-3)


def mixture_ratio(positive: int, n: int) -> float:
    """The mixture likelihood ratio by its exact sum, as the docstring of log_evidence states it."""
    tail: float = sum(comb(n + 1, j) for j in range(positive + 1)) / 2 ** (n + 1)
    return float(2 ** (n + 1) / ((n + 1) * comb(n, positive)) * tail)


@pytest.mark.parametrize(
    ("values", "expected"), [([3.0], 3.0), ([1.0, 2.0], 1.5), ([1.0, 2.0, 9.0], 2.0), ([0.0, 1.0, 3.0, 9.0], 2.0)]
)
def test_median_of_sorted_values(values: list[float], expected: float) -> None:
    assert median(values) == expected


@pytest.mark.parametrize(("alpha", "pairs"), [(1e-3, 13), (1e-5, 21)])
def test_an_interval_needs_this_many_agreeing_pairs(alpha: float, pairs: int) -> None:
    # All n signs agree: the ratio is 2^(n + 1) / (n + 1), which first exceeds 1 / alpha here.
    for n, bounded in ((pairs - 1, False), (pairs, True)):
        assert (2 ** (n + 1) / (n + 1) * (1 - 2 ** -(n + 1)) >= 1 / alpha) is bounded
        assert (confidence_interval([1.0] * n, alpha).low is not None) is bounded


@pytest.mark.parametrize("n", [1, 2, 5, 20, 101, 400])
def test_evidence_never_exceeds_the_exact_mixture_ratio_and_comes_close_where_it_counts(n: int) -> None:
    for positive in range(n + 1):
        exact, bound = log(mixture_ratio(positive, n)), log_evidence(positive, n)
        assert bound <= exact + 1e-9
        if exact > log(1000):
            assert bound > exact - 0.01


@pytest.mark.parametrize("alpha", [1e-2, 1e-3, 1e-5])
def test_no_fewer_signs_than_suffice_are_asked_to_agree(alpha: float) -> None:
    for n in range(1, 120):
        bound = mixture_bound(n, alpha)
        suffice = [positive for positive in range(n + 1) if log_evidence(positive, n) >= -log(alpha)]
        assert bound == min(suffice, default=None)


def test_the_exact_mixture_ratio_has_mean_one_under_a_fair_coin() -> None:
    n = 50
    assert math.isclose(sum(comb(n, s) / 2**n * mixture_ratio(s, n) for s in range(n + 1)), 1.0)


@settings(derandomize=True, max_examples=50)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=200), st.sampled_from([1e-2, 1e-3, 1e-5]))
def test_the_interval_is_made_of_order_statistics_around_the_median(values: list[float], alpha: float) -> None:
    ordered = sorted(values)
    interval = confidence_interval(ordered, alpha)
    if interval.low is not None:
        assert interval.high is not None
        assert interval.low in ordered
        assert interval.high in ordered
        assert interval.low <= median(ordered) <= interval.high


@settings(derandomize=True, max_examples=50)
@given(st.lists(st.floats(-1, 1), min_size=30, max_size=200))
def test_a_stricter_level_gives_a_wider_interval(values: list[float]) -> None:
    ordered = sorted(values)
    loose, strict = confidence_interval(ordered, 1e-2), confidence_interval(ordered, 1e-5)
    assert loose.low is not None
    assert loose.high is not None
    assert strict.low is None or strict.low <= loose.low
    assert strict.high is None or strict.high >= loose.high


@pytest.mark.parametrize(
    ("shift", "decision"),
    [
        (0.0, Change.SAME),
        (0.01, Change.SAME),
        (-0.015, Change.SAME),
        (0.08, Change.SLOWER),
        (0.20, Change.SLOWER),
        (-0.08, Change.FASTER),
        (-0.30, Change.FASTER),
    ],
)
def test_a_clear_shift_is_decided_as_what_it_is(shift: float, decision: Change) -> None:
    noise = random.Random(1)
    ordered: list[float] = []
    while not TEST.is_certain(ordered):
        ordered = sorted([*ordered, shift + noise.gauss(0, 0.02)])
        assert len(ordered) < 500
    assert TEST.decide(ordered) is decision


@settings(derandomize=True, max_examples=100)
@given(st.integers(), st.floats(-0.1, 0.1), st.floats(0.001, 0.05))
def test_what_is_certain_agrees_with_the_interval_that_is_shown(seed: int, shift: float, spread: float) -> None:
    noise = random.Random(seed)
    ordered = sorted(shift + noise.gauss(0, spread) for _ in range(60))
    change, interval = TEST.decide(ordered), TEST.interval(ordered)
    assert interval.low is not None
    assert interval.high is not None
    assert (change is Change.SLOWER) == (interval.low > TEST.threshold / 2)
    assert (change is None) == (interval.low <= TEST.threshold / 2 and interval.high >= TEST.threshold)
    assert change is not Change.FASTER or interval.high < -TEST.threshold / 2
    assert TEST.detectable(ordered) is not None


def test_nothing_is_certain_from_no_pairs_or_one() -> None:
    for ordered in ([], [5.0]):
        assert TEST.decide(ordered) is None
        assert not TEST.is_certain(ordered)


def test_what_looks_faster_is_measured_on_and_is_not_slower_when_the_time_is_up() -> None:
    ordered = sorted(-0.04 + (i - 40) / 1000 for i in range(80))
    low, high = confidence_interval(ordered, TEST.miss_level).low, TEST.interval(ordered).high
    assert low is not None
    assert high is not None
    assert low <= -TEST.threshold < -TEST.threshold / 2 < high < 0  # perhaps faster, and certainly not slower
    assert not TEST.is_certain(ordered)
    assert TEST.decide(ordered) is Change.SAME


@pytest.mark.parametrize(
    ("alarm_level", "miss_level", "of_threshold", "wrong"),
    [(0.05, 1e-9, 0.5, Change.SLOWER), (1e-9, 0.05, 1.0, Change.SAME)],
    ids=["unchanged code is not called slower", "a slowed case is not called the same"],
)
def test_however_often_one_looks_what_is_said_is_no_more_often_wrong_than_its_level(
    alarm_level: float, miss_level: float, of_threshold: float, wrong: Change
) -> None:
    test = PairedTest(log1p(0.05), alarm_level, miss_level)  # one level at which errors would be seen
    noise = random.Random(2)
    errors = 0
    for _ in range(300):
        ordered: list[float] = []
        for _ in range(120):
            ordered = sorted([*ordered, of_threshold * test.threshold + noise.gauss(0, 0.05)])  # the worst such case
            if test.decide(ordered) is wrong:
                errors += 1
                break
    assert errors <= 25  # 15 are expected at most; 26 or more have probability below 1%


@pytest.mark.parametrize(("cases", "pairs"), [(1, 13), (213, 13), (10**6, 13)])
def test_that_nothing_is_slower_takes_as_few_pairs_however_many_the_cases(cases: int, pairs: int) -> None:
    test = Policy().test(cases)
    assert test.decide([0.0] * (pairs - 1)) is None
    assert test.decide([0.0] * pairs) is Change.SAME
    assert test.is_certain([0.0] * pairs)


@pytest.mark.parametrize(("d", "change"), [(0.5, Change.SLOWER), (-0.5, Change.FASTER)])
def test_that_a_case_is_slower_or_faster_takes_more_pairs_the_more_cases_there_are(d: float, change: Change) -> None:
    for cases, pairs in ((1, 13), (213, 22)):
        test = Policy().test(cases)
        assert test.decide([d] * (pairs - 1)) is not change
        assert not test.is_certain([d] * (pairs - 1))
        assert test.decide([d] * pairs) is change


def test_what_looks_slower_is_certain_to_be_or_not_to_be_before_it_confirms_another_measurement() -> None:
    test = Policy().test(213)
    confirming = replace(test, confirming=True)
    near = [0.7 * test.threshold] * 15
    assert test.decide(near) is Change.SAME
    assert test.is_certain(near)  # either answer is right of what lies between half the threshold and all of it
    assert not confirming.is_certain(near)
    assert confirming.is_certain([0.7 * test.threshold] * 30)
    assert confirming.decide([0.7 * test.threshold] * 30) is Change.SLOWER
    assert confirming.is_certain([0.4 * test.threshold] * 15)


def test_what_a_waiver_accepts_is_not_near_to_being_slower() -> None:
    accepting = replace(TEST, accepted=0.1)
    for above, near in ((0.4, False), (0.6, True)):
        assert TEST.is_near([above * TEST.threshold]) is near
        assert accepting.is_near([0.1 + above * TEST.threshold]) is near


def test_what_looks_faster_may_stop_once_it_is_certainly_not_faster_by_the_threshold() -> None:
    test = Policy().test(213)
    assert test.is_certain([-0.6 * test.threshold] * 13)  # not certain to be FASTER, and no longer of interest
    assert test.decide([-0.6 * test.threshold] * 13) is Change.SAME
    hardly = [-1.5 * test.threshold] * 20 + [-0.45 * test.threshold] * 28
    low = confidence_interval(hardly, test.miss_level).low
    assert low is not None
    assert low < -test.threshold
    assert test.is_certain(hardly)  # a median above minus half the threshold does not look faster
    assert not test.is_certain([-1.2 * test.threshold] * 21)
    assert test.decide([-1.2 * test.threshold] * 22) is Change.FASTER


def test_the_detectable_slowdown_is_what_the_upper_end_leaves_open_around_no_change() -> None:
    ordered = sorted([0.0] * 30)
    assert TEST.detectable(ordered) == 0
    accepting = PairedTest(TEST.threshold, TEST.alarm_level, TEST.miss_level, accepted=0.1)
    assert accepting.detectable(ordered) == pytest.approx(math.expm1(0.1))
    wide = sorted(i / 100 for i in range(-50, 51))
    high = TEST.interval(wide).high
    assert high is not None
    assert TEST.detectable(wide) == pytest.approx(math.expm1(high))
    assert TEST.detectable([d - 0.2 for d in wide]) == pytest.approx(math.expm1(high))  # wherever they lie
    assert TEST.detectable([0.0] * 13) == 0  # as soon as anything can be decided
    assert TEST.detectable([0.0] * 3) is None
