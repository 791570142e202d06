"""A slowdown that places in memory could explain: when it is replicated, at what level, and what then is said."""

from collections.abc import Sequence
from dataclasses import replace
from math import log

import pytest

from bench.judging.judge import judge_case, needs_replication
from bench.judging.policy import Policy
from bench.judging.replication import MOST_TWINS, Replications, replicating
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence, Measurement, Pair, Timing

ALPHA = Policy().false_alarm
TEST = Policy().test(100, replications=Replications(ALPHA))


def measured(*ratios: float, pairs: int = 60) -> Measurement:
    """Return a measurement of these ratios, over and over until there are so many."""
    return Measurement(tuple(Pair(1000.0, 1000.0 * ratios[i % len(ratios)]) for i in range(pairs)), 10, 0.5)


def verdict(ratios: Sequence[float], twins: int) -> CaseResult:
    twice = (measured(1.07), measured(1.07))
    return judge_case(Evidence("c", measurements=twice, replication=measured(*ratios, pairs=twins)), TEST)


@pytest.mark.parametrize(
    ("ratios", "needed"),
    [
        ((1.07, 1.07), True),
        ((1.07, 1.0, 1.07), True),
        ((1.3, 1.07), True),  # the smaller of the two counts
        ((1.3, 1.2), False),  # nothing in memory makes so much
        ((1.3, 1.0, 1.2), False),
        ((1.145, 1.145), True),
        ((1.155, 1.155), False),
        ((1.07, 1.0, 1.0), False),  # not confirmed
        ((1.0,), False),
        ((0.9, 0.9), False),
    ],
)
def test_a_confirmed_slowdown_is_replicated_unless_it_is_large(ratios: Sequence[float], *, needed: bool) -> None:
    measurements = [measured(ratio) for ratio in ratios]
    assert needs_replication(measurements, TEST) is needed
    assert not needs_replication(measurements, Policy().test(100))


def test_what_memory_could_explain_is_counted_from_the_slowdown_that_a_waiver_accepts() -> None:
    waived = replace(TEST, accepted=log(1.1), waiver="accepted")
    assert needs_replication([measured(1.2), measured(1.2)], waived)
    assert not needs_replication([measured(1.3), measured(1.3)], waived)
    twice = (measured(1.2), measured(1.2))
    gone = judge_case(Evidence("c", measurements=twice, replication=measured(1.0, pairs=15)), waived)
    assert gone.verdict is Verdict.UNCHANGED
    assert gone.reasons[-1] == "no longer needs its waiver (accepted)"


def test_pairs_of_twins_decide_and_not_the_pairs_within_them() -> None:
    slower = verdict([1.06], 15)
    assert (slower.verdict, slower.pairs) == (Verdict.REGRESSED, 15)
    assert slower.reasons == ("6.0% slower, in 15 pairs of twins",)
    assert slower.ratio == pytest.approx(1.06)
    assert slower.ci == pytest.approx((1.06, 1.06))  # at the replication's level
    assert slower.seconds == 1.5
    assert verdict([2.5], 15).reasons == ("150.0% slower, in 15 pairs of twins",)
    same = verdict([1.03, 0.99, 1.0], 15)
    assert same.verdict is Verdict.UNCHANGED
    assert same.reasons == ("a slowdown was measured twice, and not in 15 further pairs of twins",)
    for twins, cure in ((MOST_TWINS - 1, "raise --gate-budget"), (MOST_TWINS, "give it a larger threshold of its own")):
        undecided = verdict([1.07, 1.0], twins)
        assert undecided.verdict is Verdict.INCONCLUSIVE
        assert f"left it undecided: {cure}" in undecided.reasons[0]  # more time brings no more pairs of twins


def test_the_false_alarms_of_all_replications_together_are_those_of_one_run() -> None:
    run, levels = Replications(ALPHA), []
    replicated = verdict([1.0], 24)
    for _ in range(1000):
        assert run.level is not None
        levels.append(run.level)
        run.settle(replicated)
    assert levels == sorted(levels, reverse=True)
    assert 0.999 * ALPHA < sum(levels) < ALPHA


def test_once_a_case_is_slower_no_other_has_to_be_replicated() -> None:
    run = Replications(ALPHA)
    run.settle(CaseResult(Evidence("c"), Verdict.UNCHANGED))
    assert (run.tried, run.level) == (0, TEST.replication_level)
    run.settle(verdict([1.06], 15))
    assert run.level is None
    run.settle(CaseResult(Evidence("c"), Verdict.UNCHANGED))
    assert run.level is None


def test_the_replication_is_held_to_its_own_level() -> None:
    assert replicating(TEST).alarm_level == TEST.replication_level
    assert TEST.replication_level == pytest.approx(0.6079 * ALPHA, rel=1e-3)


def test_device_and_host_of_a_case_have_levels_of_their_own_and_each_replication_uses_one_up() -> None:
    run = Replications(0.001)
    first, second = run.level, run.host_level
    assert first is not None
    assert second is not None
    assert first > second
    both = Evidence("c", replication=measured(1.0), host=Timing((), measured(1.0)))
    run.settle(CaseResult(both, Verdict.UNCHANGED))
    assert run.tried == 2
    assert run.level == Replications(0.001, tried=2).level
    run.settle(CaseResult(both, Verdict.REGRESSED))
    assert run.level is run.host_level is None
