"""Shares out the time of a run: what some cases do not need, others may take."""

from dataclasses import dataclass, field

SHARE = 0.1  # each case's own part of the most that one measurement may take
ENOUGH_PAIRS = 100  # or the time of so many pairs, if that is more: it decides most cases on a noisy machine


@dataclass
class SharedBudget:
    """The seconds left for the cases left. ``cap_s`` is the most that one measurement of a case may take.

    A run of n cases takes at most about ``cap_s * (1 + SHARE * n)``, and more where calls take long.
    """

    cap_s: float
    cases_left: int
    left_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.left_s = self.cap_s * (1 + SHARE * self.cases_left)

    def allowance_s(self, pair_s: float = 0.0) -> float:
        """Return the seconds that the next measurement may take: its share and all that is saved, up to the cap.

        ``pair_s`` are the seconds of one call of each side: the share is at least the time of ENOUGH_PAIRS of these.
        """
        share = SHARE * self.cap_s
        saved = self.left_s - share * (self.cases_left - 1)
        return min(self.cap_s, max(share, ENOUGH_PAIRS * pair_s, saved))

    def spend(self, seconds: float) -> None:
        """Note that a case is done, and the seconds that it took."""
        self.left_s -= seconds
        self.cases_left -= 1
