"""Medians, ratios and exponents with intervals, from values taken in interleaved rounds. Pure functions.

The interval is that of the gate (``bench.judging.statistics``): distribution-free, and valid however long one measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import fmean, quantiles

from ..judging.statistics import confidence_interval, median

LEVEL = 0.025  # of each end: 95% intervals
FENCE = 1.5  # quartile distances beyond which a value is an outlier (Tukey 1977)


@dataclass(frozen=True)
class Estimate:
    """A median of ``n`` values; an end is None where the values are too few to bound it."""

    value: float
    low: float | None
    high: float | None
    n: int

    def scaled(self, factor: float) -> "Estimate":
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Estimate(self.value * factor, low, high, self.n)


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median with its interval."""
    ordered = sorted(values)
    interval = confidence_interval(ordered, LEVEL)
    return Estimate(median(ordered), interval.low, interval.high, len(ordered))


def exact(value: float) -> Estimate:
    """Return a value that was counted, not sampled."""
    return Estimate(value, value, value, 1)


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Estimate:
    """Return the median of the ratios of values taken in the same round."""
    logs = estimate([log(a / b) for a, b in zip(numerator, denominator, strict=True)])
    low, high = (None if end is None else exp(end) for end in (logs.low, logs.high))
    return Estimate(exp(logs.value), low, high, logs.n)


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the exponent p of the least-squares fit of ``y = c x^p`` on logarithms.

    Raises:
        ValueError: fewer than two different x.

    """
    if len(set(xs)) < 2:
        raise ValueError(f"an exponent needs at least two sizes; saw {sorted(set(xs))}")
    log_x, log_y = [log(x) for x in xs], [log(y) for y in ys]
    middle_x, middle_y = fmean(log_x), fmean(log_y)
    across = sum((x - middle_x) * (y - middle_y) for x, y in zip(log_x, log_y, strict=True))
    return across / sum((x - middle_x) ** 2 for x in log_x)


def power_law(xs: Sequence[float], ys: Sequence[float], p: float) -> list[float]:
    """Return ``c x^p`` at every x, c such that it fits the y best on logarithms."""
    log_c = fmean([log(y) - p * log(x) for x, y in zip(xs, ys, strict=True)])
    return [exp(log_c) * x**p for x in xs]


def exponent(values_by_size: Mapping[int, Sequence[float]]) -> Estimate:
    """Fit one exponent a round, over all sizes, and return their median: what noise does to the fit, not its lack."""
    rounds = zip(*values_by_size.values(), strict=True)
    return estimate([slope(list(values_by_size), values) for values in rounds])


def counted_exponent(values_by_size: Mapping[int, Sequence[float]]) -> Estimate:
    """Fit the exponent of one counted value a size."""
    return exact(slope(list(values_by_size), [values[0] for values in values_by_size.values()]))


def without_outliers(values: Sequence[float]) -> list[float]:
    """Drop what lies more than ``FENCE`` quartile distances beyond the quartiles; the study names no rule."""
    if len(values) < 4:
        return list(values)
    lower, _, upper = quantiles(values, n=4)
    reach = FENCE * (upper - lower)
    return [value for value in values if lower - reach <= value <= upper + reach]


def mean_without_outliers(values: Sequence[float]) -> float:
    """The study's statistic, as its protocol describes it."""
    return fmean(without_outliers(values))
