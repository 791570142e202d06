"""The geometry of the forest plot: ratios on a logarithmic axis in pixels, cut off at the extremes."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log, log1p

from ..judging.policy import Policy
from ..judging.verdict import CaseResult

WIDTH = 220
EDGE = 8  # room at both ends for a mark on the edge
LABEL_WIDTH = 28
REACH = (2.0, 4.0)  # thresholds to each side of the axis, at least and at most
# The roundest first: each is written where there is room for it.
_LABELS = (1, 10, 0.1, 2, 0.5, 5, 0.2, 1.5, 0.7, 1.2, 0.8, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 1.01, 0.99, 1.005, 0.995)


@dataclass(frozen=True)
class Mark:
    """One case: the ratio and the ends of its interval in pixels, and which end goes on beyond the axis."""

    at: float
    low: float
    high: float
    low_cut: bool
    high_cut: bool


@dataclass(frozen=True)
class Forest:
    """An axis symmetrical around no change: ``limit`` is the log-ratio at its ends, ``log_threshold`` the gate's."""

    limit: float
    log_threshold: float
    width: int = WIDTH

    @classmethod
    def around(cls, cases: Iterable[CaseResult], policy: Policy) -> "Forest":
        """Fit the axis to the ratios, within ``REACH``."""
        threshold = log1p(policy.threshold)
        farthest = max((abs(log(case.ratio)) for case in cases if case.ratio), default=0.0)
        return cls(min(max(1.2 * farthest, REACH[0] * threshold), REACH[1] * threshold), threshold)

    def x(self, log_ratio: float) -> float:
        """Return where a log-ratio lies; what is beyond the axis lies on its edge."""
        inside = max(-1.0, min(1.0, log_ratio / self.limit))
        return round(self.width / 2 + inside * (self.width / 2 - EDGE), 1)

    def at(self, thresholds: float) -> float:
        """Return where a slowdown of so many thresholds lies; 0 is no change."""
        return self.x(thresholds * self.log_threshold)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """List the ratios to write, and where: as many round ones as there is room for, from the middle outwards."""
        chosen: list[tuple[float, str]] = []
        for ratio in _LABELS:
            x = self.x(log(ratio))
            fits = LABEL_WIDTH / 2 <= x <= self.width - LABEL_WIDTH / 2
            if fits and all(abs(x - other) >= LABEL_WIDTH for other, _ in chosen):
                chosen.append((x, f"{ratio:g}"))
        return chosen

    def mark(self, case: CaseResult) -> Mark | None:
        """Place a case; None if it has no ratio. An end that the pairs do not bound is cut off, too."""
        if case.ratio is None:
            return None
        low, high = (None if end is None else log(end) for end in case.ci)
        low_cut = low is None or low < -self.limit
        high_cut = high is None or high > self.limit
        return Mark(
            self.x(log(case.ratio)),
            2.0 if low_cut or low is None else self.x(low),
            self.width - 2.0 if high_cut or high is None else self.x(high),
            low_cut,
            high_cut,
        )
