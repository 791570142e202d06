"""Turns each pair of processes into one observation of a case, judged by the same rule as a pair of bursts. Pure.

Two processes that run the same code differ by some percent, each pair by its own amount, however long one measures (see
METHOD.md). So bursts in one pair of processes are not independent; the pairs of processes are.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import exp

from ..judging.statistics import PairedTest, median
from ..plain.evidence import Measurement, Pair


def observation(measurement: Measurement) -> Pair:
    """Return one pair of processes as an observation: its median base time, and the median of its log-ratios."""
    base_ns = median(sorted(pair.base_ns_per_call for pair in measurement.pairs))
    log_ratio = median(sorted(pair.log_ratio for pair in measurement.pairs))
    return Pair(base_ns, base_ns * exp(log_ratio))


def joined(measurements: Sequence[Measurement], seconds: float) -> Measurement:
    """Return the measurement whose pairs are the observations, in order."""
    pairs = tuple(observation(measurement) for measurement in measurements)
    return replace(measurements[-1], pairs=pairs, seconds=seconds)


def is_settled(measurements: Sequence[Measurement], test: PairedTest) -> bool:
    """Whether the observations make the test certain."""
    return test.is_certain(sorted(observation(one).log_ratio for one in measurements))
