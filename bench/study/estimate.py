"""Medians, ratios and exponents with intervals, from values taken in interleaved rounds. Pure functions.

The interval is that of the gate (``bench.judging.statistics``): distribution-free, and valid however long one measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isclose, log
from statistics import fmean, linear_regression, quantiles

from ..judging.statistics import Interval, confidence_interval, median

LEVEL = 0.025  # of each end: 95% intervals
FENCE = 1.5  # quartile distances beyond which a value is an outlier (Tukey 1977)


@dataclass(frozen=True)
class Estimate:
    """A median of ``n`` values; an end is None where the values are too few to bound it."""

    value: float
    low: float | None
    high: float | None
    n: int

    def show(self, unit: str = "") -> str:
        """Write the value with its interval, if it was sampled."""
        text = f"{number(self.value)}{unit}"
        if self.low is None or self.high is None:
            return f"{text} ({self.n} value{'s' if self.n > 1 else ''}, too few for an interval)"
        return text if isclose(self.low, self.high) else f"{text} [{number(self.low)}, {number(self.high)}]"


def number(value: float) -> str:
    """Write three significant figures, or a whole number where it has more."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def estimate(values: Sequence[float], scale: float = 1.0, *, counted: bool = False) -> Estimate:
    """Return the median with its interval, times a scale; the interval is the value where it was counted."""
    ordered = sorted(value * scale for value in values)
    middle = median(ordered)
    interval = Interval(middle, middle) if counted else confidence_interval(ordered, LEVEL)
    return Estimate(middle, interval.low, interval.high, len(ordered))


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Estimate:
    """Return the median of the ratios of values taken in the same round."""
    logs = estimate([log(a / b) for a, b in zip(numerator, denominator, strict=True)])
    low, high = (None if end is None else exp(end) for end in (logs.low, logs.high))
    return Estimate(exp(logs.value), low, high, logs.n)


def exponent(values_by_size: Mapping[int, Sequence[float]], *, counted: bool = False) -> Estimate:
    """Fit the exponent p of ``y = c x^p`` in each round, over all sizes, and return the median.

    Its interval is about what noise does to the fit, not about how well a power law fits.

    Raises:
        StatisticsError: fewer than two sizes.

    """
    log_sizes = [log(size) for size in values_by_size]
    rounds = zip(*values_by_size.values(), strict=True)
    slopes = [linear_regression(log_sizes, [log(value) for value in values]).slope for values in rounds]
    return estimate(slopes, counted=counted)


def mean_without_outliers(values: Sequence[float]) -> float:
    """The study's statistic, as its protocol describes it; the study names no rule for outliers."""
    if len(values) < 4:
        return fmean(values)
    lower, _, upper = quantiles(values, n=4)
    reach = FENCE * (upper - lower)
    return fmean(value for value in values if lower - reach <= value <= upper + reach)
