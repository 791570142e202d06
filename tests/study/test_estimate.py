"""Medians, ratios and exponents, on data whose answer is known."""

import random

import pytest

from bench.study.estimate import (
    counted_exponent,
    estimate,
    exponent,
    mean_without_outliers,
    power_law,
    ratio,
    slope,
    without_outliers,
)

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


def test_an_exponent_of_counted_values_is_exact() -> None:
    found = counted_exponent({size: [7.0 * size**2] for size in SIZES})
    assert found.low == found.high == found.value == pytest.approx(2.0)


def test_the_power_law_goes_through_data_that_follow_one() -> None:
    assert power_law(SIZES, [7.0 * size**1.5 for size in SIZES], 1.5) == pytest.approx([7.0 * s**1.5 for s in SIZES])


def test_an_exponent_needs_two_sizes() -> None:
    with pytest.raises(ValueError, match=r"needs at least two sizes; saw \[64\]"):
        slope([64], [1.0])


def test_the_interval_needs_eight_values() -> None:
    assert estimate([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]).low is None
    assert estimate([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]).low == 1.0


def test_a_ratio_is_taken_round_by_round_so_what_slows_a_round_cancels() -> None:
    load = [1.0 + 10 * (i % 7 == 0) for i in range(50)]
    found = ratio([2.0 * x for x in load], load)
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_outliers_are_dropped_from_the_mean_and_nothing_else_is() -> None:
    values = [1.0, 1.1, 0.9, 1.05, 0.95] * 10
    assert without_outliers(values) == values
    assert mean_without_outliers([*values, 50.0]) == pytest.approx(1.0)
