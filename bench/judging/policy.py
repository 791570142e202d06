"""The policy: which slowdown must not pass, and how certain a verdict must be. Pure, no torch."""

from dataclasses import dataclass, replace
from math import log, log1p

from .replication import Replications
from .statistics import PairedTest


@dataclass(frozen=True)
class Accepted:
    """What is accepted of one case, and what reports say of it.

    ``threshold`` takes the place of the run's: 0.1 = 10%. ``ratio`` is the slowdown that a waiver accepts.
    """

    threshold: float | None = None
    note: str | None = None  # of the threshold
    ratio: float = 1.0
    waiver: str | None = None


NOTHING = Accepted()


@dataclass(frozen=True)
class Policy:
    """Which slowdown must not pass, and how certain a verdict must be. These defaults are defined here alone."""

    threshold: float = 0.05  # the slowdown that must not pass: 0.05 = 5%
    budget_s: float = 30.0  # the most time one measurement of a case may take
    undecided: float = 1.0  # the share of the timed cases that may be INCONCLUSIVE; 1: no limit
    false_alarm: float = 0.001  # probability that a run without any slowdown is failed, over all its cases and looks
    host_threshold: float = 0.1  # as ``threshold``, for the time that the host takes to launch a call on a device

    @classmethod
    def default_budget_s(cls, threshold: float) -> float:
        """Return the budget for a threshold: smaller slowdowns need more pairs, by the inverse square.

        It does not shrink for a larger threshold: noise may be as large, and a case that is decided takes no more time.
        """
        return cls.budget_s * max(1.0, cls.threshold / threshold) ** 2

    def test(
        self,
        cases: int,
        accepted: Accepted = NOTHING,
        replications: Replications | None = None,
        *,
        host: bool = False,
    ) -> PairedTest:
        """Return the stopping rule of a case in a run of ``cases`` cases.

        A false alarm in any case fails the run, so all cases share the level of an alarm (Bonferroni). A slowdown is
        missed only if that very case is called UNCHANGED, so each case has the whole level of a miss. ``replications``
        are those of the run so far; None where a slowdown needs none. ``host``: the host's time is judged too, which
        counts as another case.
        """
        test = PairedTest(
            log1p(self.threshold if accepted.threshold is None else accepted.threshold),
            self.false_alarm / max(1, cases),
            self.false_alarm,
            log(accepted.ratio),
            accepted.note,
            accepted.waiver,
            replication_level=None if replications is None else replications.level,
        )
        if not host:
            return test
        level = None if replications is None else replications.host_level
        of_host = replace(test, threshold=log1p(self.host_threshold), note=None, replication_level=level)
        return replace(test, host=of_host)

    @property
    def miss(self) -> float:
        """The largest probability that a case slowed by the threshold is called UNCHANGED, over both measurements."""
        return 2 * self.false_alarm

    @property
    def intervals(self) -> str:
        """Say in a few words how certain the intervals of a run are.

        Where a case was measured twice, the second interval is reported, so an upper end has two chances to be wrong. A
        lower end has one: if the case is not slower, there is a second measurement only after a wrong lower end in the
        first; if it is slower, a wrong lower end in the first always leads to a second measurement.
        """
        return f"simultaneous {1 - self.false_alarm:.1%} lower bounds, upper bounds {1 - self.miss:.1%} each"
