"""What it takes to believe a slowdown that the places of data in memory could explain. Pure.

Pairs of twins of the same code differ by some percent, each by its own amount, where calls are short and memory lies
elsewhere in each. So a slowdown that two pairs of twins show is measured in fresh pairs, and each of those is one
observation. The probability of a false alarm of the whole run is spent on the cases that come so far, whatever their
number: the k-th has 6 / (pi k)^2 of it, which add up to all of it.
"""

from dataclasses import dataclass, replace
from math import log1p, pi

from .statistics import PairedTest
from .verdict import CaseResult, Verdict

PATIENCE = 4  # times the budget of a measurement, for all pairs of twins of a replication
LAYOUT = log1p(0.15)  # a log-ratio beyond what places in memory were seen to make; two pairs of twins suffice there


@dataclass
class Replications:
    """The cases of a run that were replicated. Once one is slower, the run fails, and no other can fail it wrongly."""

    false_alarm: float
    tried: int = 0
    established: bool = False

    @property
    def level(self) -> float | None:
        """The probability of a false alarm that the next case has; None if none needs to be replicated any more."""
        return self._level(self.tried + 1)

    @property
    def host_level(self) -> float | None:
        """The same of the host's time of that case, beside the device's."""
        return self._level(self.tried + 2)

    def _level(self, number: int) -> float | None:
        return None if self.established else self.false_alarm * 6 / (pi * number) ** 2

    def settle(self, result: CaseResult) -> None:
        """Take note of a result."""
        evidence = result.evidence
        self.tried += evidence.replication is not None
        self.tried += evidence.host is not None and evidence.host.replication is not None
        self.established = self.established or result.verdict is Verdict.REGRESSED


def replicating(test: PairedTest) -> PairedTest:
    """Return the stopping rule of the replication of a case."""
    assert test.replication_level is not None  # it is needed
    return replace(test, alarm_level=test.replication_level)
