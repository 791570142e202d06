"""How a case is measured in several pairs of twins, or of processes: until it is decided, or until it is replicated.

Two processes that run the same code differ by some percent, each pair by its own amount, however long one measures (see
METHOD.md). So bursts in one pair of processes are not independent; the pairs of processes are. Where each of them is
one observation of a case, the same rule judges these as it judges pairs of bursts.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp

from ..judging.judge import deciding, needs_replication
from ..judging.replication import MOST_TWINS, PATIENCE, replicating
from ..judging.statistics import PairedTest, median
from ..plain.evidence import Measurement, Pair
from ..plain.printable import counted
from ..timing.measure import StoppingRule

BURST_PAIRS = 9  # pairs of bursts in each pair of processes; more would not narrow what differs between processes
MOST_PAIRS = 40  # of processes: all live until the run ends, so memory bounds them
SHARE = 0.05  # of a measurement's budget, for each pair of processes
DECISIVE = 2  # times the fewest observations that can decide: so many decide most cases though some of them differ

# Measures in the pair of twins, or of processes, that has a number from 0: with a stopping rule, for so many seconds.
MeasureIn = Callable[[int, StoppingRule, float], Measurement]


def measure_until_decided(measure_in: MeasureIn, test: PairedTest, budget_s: float) -> tuple[Measurement, ...]:
    """Measure in one pair of twins after the other until the case is decided, in each for the budget at most."""
    measurements = [measure_in(0, test, budget_s)]
    while deciding(measurements, test) is None:
        measurements.append(measure_in(len(measurements), replace(test, confirming=True), budget_s))
    return tuple(measurements)


def replicate(
    measure_in: MeasureIn, measurements: Sequence[Measurement], test: PairedTest, budget_s: float
) -> Measurement | None:
    """Measure a slowdown in further pairs of twins, if it is one that the layout of memory alone could explain.

    ``budget_s`` is that of one measurement. Where sides take seconds to start, it would end before the pairs of twins
    were enough to decide anything, so ``DECISIVE`` times the fewest that can decide are taken in any case.
    """
    if not needs_replication(measurements, test):
        return None
    first = len(measurements)
    return measure_processes(
        lambda number, rule, seconds: measure_in(first + number, rule, seconds),
        replicating(test),
        PATIENCE * budget_s,
        MOST_TWINS,
        least=DECISIVE * test.least_pairs,
        within=test,
    )


def measure_processes(
    measure_in: MeasureIn,
    test: PairedTest,
    budget_s: float,
    most: int,
    *,
    least: int = 1,
    within: StoppingRule | None = None,
) -> Measurement:
    """Take an observation from one pair of processes after the other, until the test is certain or there are ``most``.

    The budget ends this only after ``least`` observations. ``within`` is the stopping rule in each pair of processes;
    by default, that is ``BURST_PAIRS`` pairs of bursts.
    """
    start_s = time.monotonic()
    taken: list[Measurement] = []
    while len(taken) < most:
        taken.append(measure_in(len(taken), within or _Enough(), SHARE * budget_s))
        spent = time.monotonic() - start_s > budget_s and len(taken) >= least
        if spent or test.is_certain(sorted(observation(one).log_ratio for one in taken)):
            break
    return joined(taken, time.monotonic() - start_s)


@dataclass(frozen=True)
class _Enough:
    """The stopping rule within a pair of processes: after so many pairs of bursts."""

    least_pairs = 1

    def is_certain(self, ordered: Sequence[float]) -> bool:
        return len(ordered) >= BURST_PAIRS


def note_of_processes(pairs: int, most: int) -> str:
    """Say what a reader of the verdicts must know about how they were measured, and what could not be."""
    ran = counted(pairs, "pair of processes", "pairs of processes")
    said = f"base and head ran in {ran}, each of which is one pair in the table"
    if pairs < most:
        return f"{said}: processes differ by some percent, so this sees less than a run in one"
    return f"{said}, and no case is given more: give a higher --gate-threshold for what is undecided"


def observation(measurement: Measurement) -> Pair:
    """Return one pair of processes as an observation: its median base time, and the median of its log-ratios."""
    base_ns = median(sorted(pair.base_ns_per_call for pair in measurement.pairs))
    log_ratio = median(sorted(pair.log_ratio for pair in measurement.pairs))
    return Pair(base_ns, base_ns * exp(log_ratio))


def joined(measurements: Sequence[Measurement], seconds: float) -> Measurement:
    """Return the measurement whose pairs are the observations, in order."""
    pairs = tuple(observation(measurement) for measurement in measurements)
    return replace(measurements[-1], pairs=pairs, seconds=seconds)
