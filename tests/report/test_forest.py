"""The geometry of the forest plot, from a table."""

from itertools import pairwise
from math import log

import pytest

from bench.judging.policy import Policy
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence
from bench.report.forest import LABEL_WIDTH, Forest


def case(ratio: float | None, low: float | None = None, high: float | None = None) -> CaseResult:
    return CaseResult(Evidence("c"), Verdict.UNCHANGED, ratio=ratio, ci=(low, high))


def around(*ratios: float, threshold: float = 0.05) -> Forest:
    return Forest.around([case(ratio) for ratio in ratios], Policy(threshold))


def test_no_change_is_in_the_middle_and_a_slowdown_to_its_right() -> None:
    forest = around(1.1)
    assert forest.at(0) == forest.width / 2
    assert forest.at(-0.5) < forest.at(0) < forest.at(0.5) < forest.at(1) < forest.x(log(1.1))


def test_twice_and_half_lie_equally_far_from_no_change() -> None:
    forest = around(1.1)
    assert forest.x(log(1.1)) - forest.at(0) == pytest.approx(forest.at(0) - forest.x(-log(1.1)))


@pytest.mark.parametrize("ratios", [(), (1.0,), (1.0, 1.3), (0.01, 100.0)])
@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.5])
def test_the_threshold_is_always_in_sight_however_far_one_case_lies(
    ratios: tuple[float, ...], threshold: float
) -> None:
    forest = around(*ratios, threshold=threshold)
    assert forest.width / 2 + 20 < forest.at(1) < forest.width - 20


def test_an_end_beyond_the_axis_or_without_bound_is_cut_off() -> None:
    forest = around(1.0)
    inside, open_ended, beyond = (forest.mark(case(*c)) for c in ((1, 0.98, 1.02), (1, None, None), (9, 8, 10)))
    assert inside is not None
    assert open_ended is not None
    assert beyond is not None
    assert (inside.low_cut, inside.high_cut) == (False, False)
    assert (open_ended.low_cut, open_ended.high_cut) == (True, True)
    assert beyond.high_cut
    assert beyond.at == forest.x(forest.limit)


def test_a_case_without_a_ratio_has_no_mark() -> None:
    assert around(1.0).mark(case(None)) is None


@pytest.mark.parametrize("threshold", [0.005, 0.01, 0.05, 0.5, 5.0])
def test_labels_are_several_and_do_not_overlap(threshold: float) -> None:
    forest = around(1.0, (1 + threshold) ** 3, threshold=threshold)
    places = sorted(x for x, _ in forest.ticks)
    assert len(places) >= 3
    assert (forest.at(0), "1") in forest.ticks
    assert all(right - left >= LABEL_WIDTH for left, right in pairwise(places))
