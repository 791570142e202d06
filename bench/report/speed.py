"""Sums up what a change did to speed, for a pull request that claims to be faster."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist, fmean, stdev

from ..judging.verdict import CaseResult, Verdict
from .text import subject

LEVEL = 0.95
FEWEST = 7  # cases, at least, for an interval
ALL = "all that is timed"
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

    The interval takes the cases as a sample of the kernel's work, and comes from the spread of their log-ratios; None
    where they are too few. Cases that are wrong, or that execute something else, do not count.
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
    """Sum up each kernel with a case that became faster or slower, then all kernels; empty if no case became faster."""
    timed = [case for case in cases if case.ratio is not None and case.verdict in _OUTCOME]
    if all(case.verdict is not Verdict.FASTER for case in timed):
        return ()
    by_kernel: dict[str, list[CaseResult]] = defaultdict(list)
    for case in timed:
        by_kernel[subject(case.id)].append(case)
    parts = [_speed(name, part) for name, part in by_kernel.items()]
    return (*(part for part in parts if part.counts["faster"] or part.counts["slower"]), _speed(ALL, timed))


def _speed(name: str, cases: Sequence[CaseResult]) -> Speed:
    logs = [log(case.ratio) for case in cases if case.ratio is not None]
    counts = Counter(_OUTCOME[case.verdict] for case in cases)
    mean = fmean(logs)
    if len(logs) < FEWEST:
        return Speed(name, counts, exp(mean), None)
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * stdev(logs) / sqrt(len(logs))
    return Speed(name, counts, exp(mean), (exp(mean - half), exp(mean + half)))
