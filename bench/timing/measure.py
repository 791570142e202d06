"""The measuring loop: times base and head in turn, on equal inputs, until a stopping rule is satisfied."""

import random
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from time import perf_counter_ns
from typing import TYPE_CHECKING, Protocol

from ..plain.evidence import Measurement, Pair

if TYPE_CHECKING:
    from .clock import Stopwatch

# A burst is at least so long, and so many times the clock's resolution. Shorter bursts spend more time on the loop
# itself, longer ones give fewer pairs a second: verdicts took half as long with 0.5 ms as with 2 ms.
BURST_NS = 500_000
BURST_RESOLUTIONS = 1000
# Warming up ends when a round of both sides is not faster than the fastest before it by this factor.
SETTLED = 0.05
WARMUP_ROUNDS = 20  # at most
COLD = 2.0  # a first call may take so many times as long as later ones


Burst = Callable[[int], float]  # makes and times so many calls; returns ns per call


def burst_of(call: Callable[[], object], clock: "Stopwatch") -> Burst:
    """Return what times a call in this process."""
    return lambda calls: clock.burst(call, calls)


class StoppingRule(Protocol):
    """Says from the sorted log-ratios so far whether measuring may stop; it must be valid at every look.

    It is certain of nothing before it has seen ``least_pairs``.
    """

    @property
    def least_pairs(self) -> int: ...

    def is_certain(self, ordered: Sequence[float]) -> bool: ...


@dataclass(frozen=True)
class Never:
    """A rule that is never certain."""

    least_pairs = 1

    def is_certain(self, ordered: Sequence[float]) -> bool:  # noqa: ARG002  # a rule's signature
        return False


def measure(
    base: Burst,
    head: Burst,
    *,
    rule: StoppingRule,
    budget_s: float,
    order: random.Random,
    resolution_ns: float = 1.0,
    now_ns: Callable[[], int] = perf_counter_ns,
) -> Measurement:
    """Take pairs of bursts until the rule is certain or the budget is spent, at least one pair.

    Where the first shows that the budget does not suffice for the least pairs, it is left to others.

    Each side is called once before, and then in turn for as long as the rounds get faster; those rounds are not pairs,
    and when they end does not depend on ratios. If the first calls show already that the budget is far too small, they
    are the only pair, which decides nothing. For each pair a fair coin decides which side goes first, so that
    the signs of unchanged code are independent, whatever the machine does to the first and the second burst.
    """
    start_ns = now_ns()
    pairs: list[Pair] = []
    ordered: list[float] = []
    first = Pair(max(base(1), 1.0), max(head(1), 1.0))
    if rule.least_pairs > 1 and rule.least_pairs * _seconds(first) > COLD * budget_s:
        return Measurement((first,), 1, (now_ns() - start_ns) * 1e-9)
    rounds, fastest_ns = warm_up(base, head)
    calls = ceil(max(BURST_NS, BURST_RESOLUTIONS * resolution_ns) / max(1.0, fastest_ns))
    while not pairs or (not rule.is_certain(ordered) and (now_ns() - start_ns) * 1e-9 < budget_s):
        if order.random() < 0.5:
            base_ns = base(calls)
            head_ns = head(calls)
        else:
            head_ns = head(calls)
            base_ns = base(calls)
        pair = Pair(max(base_ns, 1.0), max(head_ns, 1.0))
        if not pairs and rule.least_pairs * calls * _seconds(pair) > budget_s:
            budget_s = 0.0
        pairs.append(pair)
        insort(ordered, pairs[-1].log_ratio)
    return Measurement(tuple(pairs), calls, (now_ns() - start_ns) * 1e-9, rounds)


def _seconds(pair: Pair) -> float:
    """The time of one call of each side."""
    return (pair.base_ns_per_call + pair.head_ns_per_call) * 1e-9


def warm_up(*sides: Burst) -> tuple[int, float]:
    """Call all sides in turn until they get no faster; returns the number of rounds, and ns of the fastest call."""
    rounds, fastest_round, fastest_call = 0, float("inf"), float("inf")
    while rounds < WARMUP_ROUNDS:
        times = [side(1) for side in sides]
        rounds += 1
        fastest_call = min(fastest_call, *times)
        if sum(times) > fastest_round * (1 - SETTLED):
            break
        fastest_round = sum(times)
    return rounds, fastest_call
