"""Shares out the time of a run: what some cases do not need, others may take."""

from dataclasses import dataclass, field

SHARE = 0.025  # each case's own part of the most that one measurement may take


@dataclass
class SharedBudget:
    """The seconds left for the cases left. ``cap_s`` is the most that one measurement of a case may take.

    A run of n cases takes at most about ``cap_s * (1 + SHARE * n)``.
    """

    cap_s: float
    cases_left: int
    left_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.left_s = self.cap_s * (1 + SHARE * self.cases_left)

    def allowance_s(self) -> float:
        """Return the seconds that the next measurement may take: its share and all that is saved, up to the cap."""
        share = SHARE * self.cap_s
        return max(share, min(self.cap_s, self.left_s - share * (self.cases_left - 1)))

    def spend(self, seconds: float) -> None:
        """Note that a case is done, and the seconds that it took."""
        self.left_s -= seconds
        self.cases_left -= 1
