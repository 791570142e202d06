"""The cases that a run left undecided: how many, whether these are too many, and what would decide them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log1p

from ..plain.evidence import Load
from .policy import Policy
from .statistics import least_agreeing
from .verdict import CaseResult, Verdict

LONGEST_BUDGET_S = 300.0  # the advice names no larger budget than this
ENOUGH = 2.0  # times the least pairs that can decide a case: so many decide most cases


@dataclass(frozen=True)
class Undecided:
    """How many of a run's timed cases are undecided, and what would decide them."""

    count: int
    compared: int
    timed: int  # of the compared cases; a case that is only checked cannot be undecided
    policy: Policy
    worst: float | None  # the largest slowdown that one of them could have missed; None if unknown
    needed_s: float  # for enough pairs of those that had too few to see any slowdown
    load: Load | None

    @classmethod
    def of(cls, cases: Sequence[CaseResult], policy: Policy, load: Load | None) -> "Undecided":
        """Count them among the cases of a run."""
        compared = [case for case in cases if case.verdict.compared]
        undecided = [case for case in compared if case.verdict is Verdict.INCONCLUSIVE]
        worst = max((case.mde for case in undecided if case.mde is not None), default=None)
        seconds = [(c.base_ns or 0.0) + (c.head_ns or 0.0) for c in undecided if c.mde is None]
        needed_s = ENOUGH * least_agreeing(policy.false_alarm) * max(seconds, default=0.0) * 1e-9
        timed = [case for case in compared if case.ratio is not None or case.verdict is Verdict.INCONCLUSIVE]
        return cls(len(undecided), len(compared), len(timed), policy, worst, needed_s, load)

    @property
    def too_many(self) -> bool:
        """Whether there are more than the policy allows; then the run does not count as a comparison."""
        return self.count > 0 and self.count / self.timed > self.policy.undecided

    @property
    def said(self) -> str:
        """Say how many cases are undecided, and how many may be where that is exceeded."""
        limit = f", and at most {100 * self.policy.undecided:g}% may be" if self.too_many else ""
        return f"{self.count} of {self.timed} timed cases {'is' if self.count == 1 else 'are'} undecided{limit}"

    @property
    def cure(self) -> str:
        """Say what to do; where too many are undecided, say first how busy the machine was."""
        factor = 4.0 if self.worst is None else max(2.0, (log1p(self.worst) / log1p(self.policy.threshold)) ** 2)
        budget_s = max(self.policy.budget_s * factor, self.needed_s)
        less_work = "give calls that take seconds less work, " if self.needed_s > LONGEST_BUDGET_S else ""
        time = f"give --gate-budget={ceil(budget_s)}, " if budget_s <= LONGEST_BUDGET_S else less_work
        steps = f"{time}run on a quieter machine, split the cases into shards, or raise --gate-threshold"
        return f"{self.load}; {steps}" if self.too_many and self.load is not None else steps
