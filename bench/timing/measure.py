"""The measuring loop: times base and head in turn, on the same tensors, until a stopping rule is satisfied."""

import gc
import random
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Protocol

from ..plain.evidence import Measurement, Pair
from .clock import Stopwatch

# A burst is at least so long, and so many times the clock's resolution. Shorter bursts spend more time on the loop
# itself, longer ones give fewer pairs a second: verdicts took half as long with 0.5 ms as with 2 ms.
BURST_NS = 500_000
BURST_RESOLUTIONS = 1000
# Warming up ends when a round of both sides is not faster than the fastest before it by this factor.
SETTLED = 0.05
WARMUP_ROUNDS = 20  # at most

Views = tuple[AbstractContextManager[object], AbstractContextManager[object]]  # of base and head
NO_VIEWS: Views = (nullcontext(), nullcontext())
Burst = Callable[[int], float]


class StoppingRule(Protocol):
    """Says from the sorted log-ratios so far whether measuring may stop; it must be valid at every look."""

    def is_certain(self, ordered: Sequence[float]) -> bool: ...


@dataclass(frozen=True)
class Never:
    """A rule that is never certain."""

    def is_certain(self, ordered: Sequence[float]) -> bool:  # noqa: ARG002  # a rule's signature
        return False


def measure(
    base: Callable[[], object],
    head: Callable[[], object],
    *,
    clock: Stopwatch,
    rule: StoppingRule,
    budget_s: float,
    order: random.Random,
    views: Views = NO_VIEWS,
) -> Measurement:
    """Take pairs of bursts until the rule is certain or the budget is spent, at least one pair.

    Each side is called once, untimed, and then in turn for as long as the rounds get faster; those rounds are not
    pairs, and when they end does not depend on ratios. ``views`` are entered for each burst of base and head, outside
    of what is timed. For each pair a fair coin decides which side goes first, so that the signs of unchanged code are
    independent, whatever the machine does to the first and the second burst. Garbage collection is off meanwhile.
    """
    start_ns = clock.now_ns()
    pairs: list[Pair] = []
    ordered: list[float] = []
    with no_garbage_collection():
        host_ns: tuple[list[float], list[float]] = ([], [])
        take_base = _taking(base, clock, views[0], host_ns[0])
        take_head = _taking(head, clock, views[1], host_ns[1])
        for call, view in zip((base, head), views, strict=True):
            with view:
                call()
        rounds, fastest_ns = _warm_up(take_base, take_head)
        burst_ns = max(BURST_NS, BURST_RESOLUTIONS * clock.resolution_ns)
        calls = max(1, ceil(burst_ns / max(1.0, fastest_ns)))
        while not pairs or (not rule.is_certain(ordered) and (clock.now_ns() - start_ns) * 1e-9 < budget_s):
            if order.random() < 0.5:
                base_ns = take_base(calls)
                head_ns = take_head(calls)
            else:
                head_ns = take_head(calls)
                base_ns = take_base(calls)
            pairs.append(Pair(max(base_ns, 1.0), max(head_ns, 1.0)))
            insort(ordered, pairs[-1].log_ratio)
    of_pairs = (sorted(taken[-len(pairs) :]) for taken in host_ns)  # the rounds before warm up
    base_host_ns, head_host_ns = (median(taken) if taken else None for taken in of_pairs)
    seconds = (clock.now_ns() - start_ns) * 1e-9
    return Measurement(tuple(pairs), calls, seconds, rounds, base_host_ns, head_host_ns)


def _taking(
    call: Callable[[], object], clock: Stopwatch, view: AbstractContextManager[object], host_ns: list[float]
) -> Burst:
    """Return a function that times so many calls in their side's view, in ns per call, and notes the host's time."""

    def take(calls: int) -> float:
        with view:
            ns = clock.burst(call, calls)
        if clock.host_ns_per_call is not None:
            host_ns.append(clock.host_ns_per_call)
        return ns

    return take


def _warm_up(take_base: Burst, take_head: Burst) -> tuple[int, float]:
    """Call both sides in turn until they get no faster; returns the number of rounds, and ns of the fastest call."""
    rounds, fastest_round, fastest_call = 0, float("inf"), float("inf")
    while rounds < WARMUP_ROUNDS:
        times = take_base(1), take_head(1)
        rounds += 1
        fastest_call = min(fastest_call, *times)
        if sum(times) > fastest_round * (1 - SETTLED):
            break
        fastest_round = sum(times)
    return rounds, fastest_call


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep the collector from running inside what is timed."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
