"""The sequential paired test: what the log-ratios of a case make certain so far. Pure; valid at every look.

The pairs' log-ratios d are uncorrelated but heavy-tailed, so only signs and order statistics are used. For a value t,
the number of pairs with d > t is binomial(n, 1/2) if t is the median. Mixing the likelihood ratio of that count over a
uniform prior of the sign probability on (1/2, 1) gives a non-negative martingale of mean 1, and Ville's inequality
makes it a test at level ``alpha`` however often one looks (Robbins 1970, "Statistical methods related to the law of the
iterated logarithm"; Howard and Ramdas 2022, "Sequential estimation of quantiles"). Inverted, it is a confidence
sequence of the median whose ends are order statistics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import count
from math import comb, exp, expm1, lgamma, log, log1p


def median(ordered: Sequence[float]) -> float:
    """Return the median of sorted values."""
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@cache
def mixture_bound(n: int, alpha: float) -> int | None:
    """Return how many of n signs must agree to reject a fair coin; None if even n agreeing signs are too few."""
    if log_evidence(n, n) < -log(alpha):
        return None
    low, high = n // 2, n  # ``high`` signs suffice, ``low`` do not
    while high - low > 1:
        middle = (low + high) // 2
        if log_evidence(middle, n) < -log(alpha):
            low = middle
        else:
            high = middle
    return high


@cache
def least_agreeing(alpha: float) -> int:
    """Return the fewest signs that reject a fair coin if all of them agree."""
    return next(n for n in count(1) if mixture_bound(n, alpha) is not None)


def log_evidence(positive: int, n: int) -> float:
    """Return a lower bound of the log of the mixture likelihood ratio of a positive majority against a fair coin.

    The ratio is ``2^n * 2 * integral of p^s (1 - p)^(n - s) over (1/2, 1)``
    ``= 2^(n + 1) / ((n + 1) C(n, s)) * P(Binomial(n + 1, 1/2) <= s)``; the last factor is bounded by Hoeffding's
    inequality, so the test stays valid and needs no sum.
    """
    excess = positive + 1 - (n + 1) / 2
    if excess <= 0:
        return -float("inf")
    log_choose = lgamma(n + 1) - lgamma(positive + 1) - lgamma(n - positive + 1)
    within = log1p(-exp(-2 * excess * excess / (n + 1)))
    return (n + 1) * log(2) - log(n + 1) - log_choose + within


@dataclass(frozen=True)
class Interval:
    """Ends of a confidence interval of the median log-ratio; None where the pairs are too few to bound it."""

    low: float | None
    high: float | None


def confidence_interval(ordered: Sequence[float], alpha: float) -> Interval:
    """Bound the median from sorted values: each end is wrong with probability at most alpha, over all looks."""
    count = mixture_bound(len(ordered), alpha)
    if count is None:
        return Interval(None, None)
    return Interval(ordered[len(ordered) - count], ordered[count - 1])


def chance_of_difference(runs: int, differing: int) -> float:
    """Return the largest probability that the base's results agree in all runs and the head's differ in ``differing``.

    Both sides draw their results from one distribution; the probability is the largest over all distributions.
    """

    def chance(q: float) -> float:  # where a result differs from the base's with this probability
        at_least = sum(comb(runs, k) * q**k * (1 - q) ** (runs - k) for k in range(differing, runs + 1))
        return float((1 - q) ** runs * at_least)

    return max(chance(i / 100) for i in range(100))


class Change(Enum):
    """What is certain from a case's pairs."""

    SLOWER = "slower than half the threshold"
    SAME = "within the threshold"
    FASTER = "faster than half the threshold"


@dataclass(frozen=True)
class PairedTest:
    """The stopping rule of one case.

    Between half the threshold and the threshold lies the indifference zone, in which either answer is right.

    ``threshold`` is the slowdown that must not pass, as log(head / base). ``alarm_level`` is the probability that a
    case no slower than half of it is ever called SLOWER, or one no faster FASTER. ``miss_level`` is the probability
    that a case slowed by all of it is ever called SAME. ``accepted`` is the slowdown that a waiver accepts, as log(head
    / base); it is added to the threshold and to its half. ``note`` says why the case has a threshold of its own, and
    ``waiver`` which slowdown is accepted. ``confirming``: an earlier measurement was not clear, so this one goes on
    until it is. ``replication_level`` is the probability of a false alarm in a replication; None where a slowdown needs
    no replication. ``host`` is the rule for the host's time to make a call, where that is judged beside the device's
    time.
    """

    threshold: float
    alarm_level: float
    miss_level: float
    accepted: float = 0.0
    note: str | None = None
    waiver: str | None = None
    confirming: bool = False
    replication_level: float | None = None
    host: "PairedTest | None" = None

    @property
    def least_pairs(self) -> int:
        """The fewest pairs that can decide a case: as many as decide it if all of them agree."""
        return least_agreeing(self.miss_level)

    def is_near(self, ordered: Sequence[float]) -> bool:
        """Whether the median of sorted log-ratios lies above half the threshold, so that a case may be slower."""
        return median(ordered) > self.accepted + self.threshold / 2

    def is_certain(self, ordered: Sequence[float]) -> bool:
        """Say whether measuring may stop. A case that looks faster goes on until FASTER is certain or excluded."""
        change = self.decide(ordered)
        if self.confirming and change is Change.SAME and self.is_near(ordered):
            return False
        if change is not Change.SAME or median(ordered) >= -self.threshold / 2:
            return change is not None
        low = confidence_interval(ordered, self.miss_level).low
        return low is not None and low > -self.threshold

    def decide(self, ordered: Sequence[float]) -> Change | None:
        """Return what the sorted log-ratios make certain; None if they decide nothing yet."""
        alarm, half = confidence_interval(ordered, self.alarm_level), self.threshold / 2
        if alarm.low is not None and alarm.low > self.accepted + half:
            return Change.SLOWER
        if alarm.high is not None and alarm.high < -half:
            return Change.FASTER
        high = confidence_interval(ordered, self.miss_level).high
        return Change.SAME if high is not None and high < self.accepted + self.threshold else None

    def interval(self, ordered: Sequence[float]) -> Interval:
        """Return the interval that decides the case.

        Its low end is wrong with probability ``alarm_level`` at most, its high end with ``miss_level``. FASTER alone
        asks for a high end at ``alarm_level``.
        """
        low = confidence_interval(ordered, self.alarm_level).low
        return Interval(low, confidence_interval(ordered, self.miss_level).high)

    def detectable(self, ordered: Sequence[float]) -> float | None:
        """Return the smallest slowdown (0.05 = 5%) that these pairs can tell from none; None if they are too few.

        That is the distance from the median to the upper end, since the upper end decides that a case is not slower.
        """
        high = self.interval(ordered).high
        return None if high is None else expm1(self.accepted + high - median(ordered))
