"""When a slowdown must be replicated, since the layout of memory could explain it. Pure.

Where calls are short, pairs of twins of the same code differ by some percent, because memory is laid out differently in
each pair. So a slowdown that two pairs of twins show is measured in fresh pairs, and each pair is one observation. The
run's probability of a false alarm is shared among the cases that are replicated, however many there are: the k-th gets
6 / (pi k)^2 of it, and these shares add up to 1.
"""

from dataclasses import dataclass, replace
from math import log1p, pi

from .statistics import PairedTest
from .verdict import CaseResult, Verdict

MOST_TWINS = 40  # pairs of twins that one replication takes at most
PATIENCE = 4  # a replication may take this many times the budget of one measurement
LAYOUT = log1p(0.15)  # no larger log-ratio came from memory layout alone, so beyond it two pairs of twins suffice


@dataclass
class Replications:
    """The cases of a run that were replicated. Once a case is REGRESSED the run has failed; no other case needs it."""

    false_alarm: float
    tried: int = 0
    established: bool = False

    @property
    def level(self) -> float | None:
        """The false-alarm probability of the next replication; None if no case needs replication any more."""
        return self._level(self.tried + 1)

    @property
    def host_level(self) -> float | None:
        """The same for the host's time of that case, which is replicated after the device's."""
        return self._level(self.tried + 2)

    def _level(self, number: int) -> float | None:
        return None if self.established else self.false_alarm * 6 / (pi * number) ** 2

    def settle(self, result: CaseResult) -> None:
        """Count the replications of a case that is done, and note whether it is REGRESSED."""
        evidence = result.evidence
        self.tried += evidence.replication is not None
        self.tried += evidence.host is not None and evidence.host.replication is not None
        self.established = self.established or result.verdict is Verdict.REGRESSED


def replicating(test: PairedTest) -> PairedTest:
    """Return the stopping rule of the replication of a case."""
    assert test.replication_level is not None  # else nothing is replicated
    return replace(test, alarm_level=test.replication_level)
