"""How time is taken: ours, in interleaved rounds; and the study's protocol, run after run."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from ..timing.clock import Stopwatch
from ..timing.measure import BURST_NS, SETTLED, WARMUP_ROUNDS, no_garbage_collection

ROUNDS = 500  # at most
WARMING = 0.2  # of a budget, at most

Work = Callable[[], object]


@dataclass(frozen=True)
class Warm:
    """Work that has been called until it got no faster, and its fastest call."""

    work: Work
    fastest_ns: float

    @property
    def calls_per_burst(self) -> int:
        return max(1, ceil(BURST_NS / max(1.0, self.fastest_ns)))


def warm_up(work: Work, clock: Stopwatch, budget_s: float) -> Warm:
    """Call once, which may compile or load, and then until that no longer gets faster or the budget is spent."""
    work()
    fastest, spent = float("inf"), 0.0
    for _ in range(WARMUP_ROUNDS):
        taken = clock.burst(work, 1)
        spent += taken
        settled = taken > fastest * (1 - SETTLED)
        fastest = min(fastest, taken)
        if settled or spent * 1e-9 > budget_s:
            break
    return Warm(work, fastest)


def rounds(works: Sequence[Warm], clock: Stopwatch, budget_s: float, most: int = ROUNDS) -> list[tuple[float, ...]]:
    """Time a burst of each in random order, round after round: ns a call, as many of each.

    Stops before a round that would overrun the budget; one round is always taken. Garbage collection is off meanwhile.
    """
    order = random.Random(0)
    values: list[list[float]] = [[] for _ in works]
    start_ns, longest_ns = clock.now_ns(), 0
    with no_garbage_collection():
        for taken in range(most if works else 0):
            round_ns = clock.now_ns()
            if taken and (round_ns - start_ns + longest_ns) * 1e-9 > budget_s:
                break
            for i in order.sample(range(len(works)), len(works)):
                values[i].append(max(1.0, clock.burst(works[i].work, works[i].calls_per_burst)))
            longest_ns = max(longest_ns, clock.now_ns() - round_ns)
    return [tuple(v) for v in values]


def protocol(work: Work, clock: Stopwatch, warmups: int, runs: int, budget_s: float) -> tuple[float, ...]:
    """The study's protocol: warm up, wait, then time run after run, each waited for: ns of each.

    Fewer warm-ups and runs where they do not fit the budget, at least one of each.
    """
    values: list[float] = []
    with no_garbage_collection():
        enough = _spent(clock, WARMING * budget_s)
        for _ in range(warmups):
            clock.burst(work, 1)
            if enough():
                break
        enough = _spent(clock, (1 - WARMING) * budget_s)
        while len(values) < runs and not (values and enough()):
            values.append(max(1.0, clock.burst(work, 1)))
    return tuple(values)


def repeated(work: Work, clock: Stopwatch, repetitions: int, budget_s: float, parts: int = 100) -> tuple[float, ...]:
    """The study's first protocol: one call after another, noted in that many parts: ns a call of each part.

    All parts together are the repetitions; fewer parts where they do not fit the budget, at least one.
    """
    parts = min(parts, repetitions)
    values: list[float] = []
    with no_garbage_collection():
        enough = _spent(clock, budget_s)
        while len(values) < parts and not (values and enough()):
            values.append(max(1.0, clock.burst(work, repetitions // parts)))
    return tuple(values)


def _spent(clock: Stopwatch, budget_s: float) -> Callable[[], bool]:
    """Make a question that is true once the budget, from now, is spent."""
    start_ns = clock.now_ns()
    return lambda: (clock.now_ns() - start_ns) * 1e-9 > budget_s
