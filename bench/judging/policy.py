"""The policy: what the gate must not let pass, and how sure it must be. Pure, no torch."""

from dataclasses import dataclass
from math import log, log1p

from .statistics import PairedTest
from .verdict import Verdict

FAILING = (Verdict.ERROR, Verdict.DRIFTED, Verdict.REGRESSED, Verdict.CHANGED, Verdict.MISSING)


@dataclass(frozen=True)
class OwnThreshold:
    """A threshold of one case, instead of the run's: 0.1 = 10%. ``note`` says so among the case's reasons."""

    threshold: float
    note: str


@dataclass(frozen=True)
class Policy:
    """What the gate must not let pass, and how sure it must be. The one place of these defaults."""

    threshold: float = 0.05  # the slowdown that must not pass: 0.05 = 5%
    budget_s: float = 30.0  # the most time one measurement of a case may take
    strict: bool = False  # INCONCLUSIVE fails too
    false_alarm: float = 0.001  # probability that a run without any slowdown is failed, over all its cases and looks

    @classmethod
    def default_budget_s(cls, threshold: float) -> float:
        """Return the budget for a threshold: pairs needed grow with the inverse square of what must be told apart."""
        return max(3.0, cls.budget_s * (cls.threshold / threshold) ** 2)

    def test(self, cases: int, *, threshold: OwnThreshold | None = None, accepted_ratio: float = 1.0) -> PairedTest:
        """Return the stopping rule of a case where the run has so many (Bonferroni over the cases).

        ``threshold`` is the case's own, if it has one; ``accepted_ratio`` the slowdown that a waiver accepts.
        """
        share, note = (self.threshold, None) if threshold is None else (threshold.threshold, threshold.note)
        return PairedTest(log1p(share), self.false_alarm / max(1, cases), log(accepted_ratio), note=note)

    @property
    def miss(self) -> float:
        """The probability that a run calls any case that is slowed by the threshold UNCHANGED: it is measured twice."""
        return 2 * self.false_alarm

    @property
    def confidence(self) -> float:
        """The probability that the intervals of a run are all right, both ends of each.

        Where a case was measured twice, the second interval is reported. Of a slowed case, that can be one of three
        wrong ends: the first's high end, where it did not look slower, or either of the second's.
        """
        return 1 - 3 * self.false_alarm

    def fails(self, verdict: Verdict) -> bool:
        return verdict in FAILING or (self.strict and verdict is Verdict.INCONCLUSIVE)
