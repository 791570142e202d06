"""Medians, ratios and exponents, on data whose answer is known."""

import random
from statistics import StatisticsError

import pytest

from bench.study.estimate import Estimate, estimate, exponent, mean_without_outliers, ratio

SIZES = (64, 128, 256, 512)


def power(p: float, noise: float, rounds: int = 40) -> dict[int, list[float]]:
    jitter = random.Random(0)
    return {size: [3e-3 * size**p * jitter.lognormvariate(0, noise) for _ in range(rounds)] for size in SIZES}


@pytest.mark.parametrize("p", [0.0, 1.0, 1.5, 2.0])
def test_a_fitted_exponent_is_that_of_the_data_and_inside_its_interval(p: float) -> None:
    found = exponent(power(p, noise=0.05))
    assert found.value == pytest.approx(p, abs=0.05)
    assert found.low is not None
    assert found.high is not None
    assert found.low < p < found.high


def test_an_exponent_needs_two_sizes() -> None:
    with pytest.raises(StatisticsError):
        exponent({64: [1.0]})


def test_the_interval_needs_eight_values() -> None:
    assert estimate([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]).low is None
    assert estimate([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]).low == 1.0


def test_a_ratio_is_taken_round_by_round_so_what_slows_a_round_cancels() -> None:
    load = [1.0 + 10 * (i % 7 == 0) for i in range(50)]
    found = ratio([2.0 * x for x in load], load)
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_outliers_are_dropped_from_the_mean_and_nothing_else_is() -> None:
    values = [1.0, 1.1, 0.9, 1.05, 0.95] * 10
    assert mean_without_outliers(values) == pytest.approx(1.0, abs=1e-12)
    assert mean_without_outliers([*values, 50.0]) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (estimate([2.0] * 4 + [2.2] * 4, scale=0.5), "1.05 s [1, 1.1]"),
        (estimate([2.0]), "2 s (1 value, too few for an interval)"),
        (estimate([2.0, 2.0]), "2 s (2 values, too few for an interval)"),
        (estimate([1234.5], counted=True), "1234 s"),
    ],
)
def test_an_estimate_is_written_with_its_interval_or_why_it_has_none(found: Estimate, text: str) -> None:
    assert found.show(" s") == text
