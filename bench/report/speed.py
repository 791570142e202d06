"""What a change did to speed as a whole: for a pull request that claims to be faster."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import fmean

from ..judging.verdict import CaseResult, Verdict
from .text import subject

LEVEL = 0.95
RESAMPLES = 2000
FEWEST = 5  # cases of which an interval means something
COLUMNS = ("kernel", "faster", "slower", "the same", "undecided", "head/base", f"{LEVEL:.0%} interval")
_OUTCOME = {
    Verdict.FASTER: "faster",
    Verdict.REGRESSED: "slower",
    Verdict.WAIVED: "slower",
    Verdict.UNCHANGED: "the same",
    Verdict.INCONCLUSIVE: "undecided",
}


@dataclass(frozen=True)
class Speed:
    """How many timed cases of a kernel became faster, slower or neither, and the geometric mean of their ratios.

    The interval takes the cases as a sample of the work that the kernel is used for (percentile bootstrap over cases,
    Efron 1979); None where they are too few. Cases that are wrong, or run something else, say nothing about speed.
    """

    name: str
    counts: Counter[str]
    mean: float
    interval: tuple[float, float] | None

    @property
    def cells(self) -> tuple[str, ...]:
        """Write a row in the order of ``COLUMNS``."""
        interval = "too few cases" if self.interval is None else "[{:.3f}, {:.3f}]".format(*self.interval)
        outcomes = (str(self.counts[name]) for name in COLUMNS[1:5])
        return (self.name, *outcomes, f"{self.mean:.3f}", interval)


def speeds(cases: Iterable[CaseResult]) -> tuple[Speed, ...]:
    """Sum up each kernel of which some case became faster or slower, then all; nothing where none became faster."""
    timed = [case for case in cases if case.ratio is not None and case.verdict in _OUTCOME]
    if all(case.verdict is not Verdict.FASTER for case in timed):
        return ()
    names = dict.fromkeys(subject(case.id) for case in timed if _OUTCOME[case.verdict] in ("faster", "slower"))
    parts = [(name, [case for case in timed if subject(case.id) == name]) for name in names]
    return tuple(_speed(name, part) for name, part in [*parts, ("all that is timed", timed)])


def _speed(name: str, cases: Sequence[CaseResult]) -> Speed:
    logs = [log(case.ratio) for case in cases if case.ratio is not None]
    counts = Counter(_OUTCOME[case.verdict] for case in cases)
    return Speed(name, counts, exp(fmean(logs)), None if len(logs) < FEWEST else _interval(logs))


def _interval(logs: Sequence[float]) -> tuple[float, float]:
    draw = random.Random(0)  # the same report for the same run
    means = sorted(fmean(draw.choices(logs, k=len(logs))) for _ in range(RESAMPLES))
    cut = round(RESAMPLES * (1 - LEVEL) / 2)
    return exp(means[cut]), exp(means[-1 - cut])
