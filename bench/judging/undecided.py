"""The cases that a run left undecided: how many, whether too many, and what would decide them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log1p

from ..plain.evidence import Load
from .policy import Policy
from .verdict import CaseResult, Verdict

LONGEST_BUDGET_S = 300.0  # more time than this is not advised


@dataclass(frozen=True)
class Undecided:
    """How many of a run's timed cases are undecided, and what would help."""

    count: int
    compared: int
    timed: int  # the compared cases that were timed; those that are only checked cannot be undecided
    policy: Policy
    worst: float | None  # the slowdown that all of these cases could have seen; None if unknown
    load: Load | None

    @classmethod
    def of(cls, cases: Sequence[CaseResult], policy: Policy, load: Load | None) -> "Undecided":
        """Count them among the cases of a run."""
        compared = [case for case in cases if case.verdict.compared]
        undecided = [case for case in compared if case.verdict is Verdict.INCONCLUSIVE]
        worst = max((case.mde for case in undecided if case.mde is not None), default=None)
        timed = [case for case in compared if case.ratio is not None or case.verdict is Verdict.INCONCLUSIVE]
        return cls(len(undecided), len(compared), len(timed), policy, worst, load)

    @property
    def too_many(self) -> bool:
        """Whether they are more than the policy allows; then the run counts as no comparison."""
        return self.count > 0 and self.count / self.timed > self.policy.undecided

    @property
    def said(self) -> str:
        """Say how many of how many they are, and the number that is allowed where that is exceeded."""
        limit = f", and at most {100 * self.policy.undecided:g}% may be" if self.too_many else ""
        return f"{self.count} of {self.timed} timed cases are undecided{limit}"

    @property
    def cure(self) -> str:
        """Say what to do, after what else the machine did where they are too many."""
        factor = 4.0 if self.worst is None else max(2.0, (log1p(self.worst) / log1p(self.policy.threshold)) ** 2)
        budget_s = self.policy.budget_s * factor
        time = f"give --gate-budget={ceil(budget_s)}, " if budget_s <= LONGEST_BUDGET_S else ""
        steps = f"{time}run on a quieter machine, share the cases out over shards, or raise --gate-threshold"
        return f"{self.load}; {steps}" if self.too_many and self.load is not None else steps
