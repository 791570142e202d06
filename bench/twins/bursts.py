"""How two parties are timed in turn: in bursts, on which cores, and over several pairs of processes."""

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

from ..judging.statistics import PairedTest
from ..plain.evidence import Measurement
from ..plain.printable import counted
from ..timing.measure import Burst, StoppingRule, measure
from .between import is_settled, joined
from .party import Party, SideFailed

BURST_PAIRS = 9  # pairs of bursts in each pair of processes; more would not narrow what differs between processes
MOST_PAIRS = 40  # of processes: all live until the run ends, so memory bounds them
SPINNING = 0.1  # of a call's time, added to both sides before a slowdown is injected
SHARE = 0.05  # of a measurement's budget, for each pair of processes


def measure_bursts(
    base: Party,
    head: Party,
    rule: StoppingRule,
    budget_s: float,
    *,
    cores: tuple[Sequence[int], Sequence[int]] = ((), ()),
    now_ns: Callable[[], int] = perf_counter_ns,
    host: bool = False,
) -> Measurement:
    """Time bursts of both sides in turn; ``cores`` are those to be timed on, and those to go back to.

    ``host``: time what the host does to make a call that a device works on.
    """
    timed_on, every = cores

    def burst_of(party: Party) -> Burst:
        return lambda calls: float(party.ask("burst", calls))

    try:
        settling = (timed_on, host) if host else (timed_on,)  # a session times nothing but the host
        resolution_ns = max(party.ask("settle", *settling) for party in (base, head))
        measured = measure(
            burst_of(base),
            burst_of(head),
            rule=rule,
            budget_s=budget_s,
            order=random.Random(),  # seeded by the system, so that no tosses repeat
            resolution_ns=resolution_ns,
            now_ns=now_ns,
        )
        for party in (base, head):
            party.ask("release", every)
    except SideFailed:
        for party in (base, head):  # the one that lives checks the next case
            with suppress(SideFailed):
                party.ask("release", every)
        raise
    return measured


def measure_twins(
    base: Party, head: Party, rule: StoppingRule, budget_s: float, threads: int, *, host: bool = False
) -> Measurement:
    """Time both in turn, on the same cores as this process, so that every burst follows the same switch."""
    every = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
    timed_on = every[-threads:]
    if every:
        os.sched_setaffinity(0, timed_on)
    try:
        return measure_bursts(base, head, rule, budget_s, cores=(timed_on, every), host=host)
    finally:
        if every:
            os.sched_setaffinity(0, every)


def measure_processes(
    measure_in: Callable[[int, StoppingRule, float], Measurement],
    test: PairedTest,
    budget_s: float,
    most: int,
    within: StoppingRule | None = None,
) -> Measurement:
    """Take an observation from one pair of processes after the other until the test is certain, ``most`` at the most.

    ``measure_in`` measures in the pair of a number from 0, with the stopping rule and the seconds that it gets. The
    rule is ``within``, or else to take so many pairs of bursts as make a median.
    """
    start_s = time.monotonic()
    taken: list[Measurement] = []
    while len(taken) < most:
        taken.append(measure_in(len(taken), within or _Enough(), SHARE * budget_s))
        if is_settled(taken, test) or time.monotonic() - start_s > budget_s:
            break
    return joined(taken, time.monotonic() - start_s)


@dataclass(frozen=True)
class _Enough:
    """The stopping rule within a pair of processes: after so many pairs of bursts."""

    least_pairs = 1

    def is_certain(self, ordered: Sequence[float]) -> bool:
        return len(ordered) >= BURST_PAIRS


def note_of_processes(pairs: int, most: int) -> str:
    """Say what a reader of the verdicts must know about how they were measured, and what could not be."""
    ran = counted(pairs, "pair of processes", "pairs of processes")
    said = f"base and head ran in {ran}, each of which is one pair in the table"
    if pairs < most:
        return f"{said}: processes differ by some percent, so this sees less than a run in one"
    return f"{said}, and no case is given more: give a higher --gate-threshold for what is undecided"


def stretched(taken_ns: int, share: float) -> int:
    """Spin after a burst that took so long, as if its calls were slower by a share; returns the time of both together.

    Both sides spin. A call is a little faster after idle spinning than after another call (by 0.3 to 0.4%). So if only
    the head spun, it would be slower by less than the share.
    """
    start = perf_counter_ns()
    end = start + taken_ns * ((1 + SPINNING) * (1 + share) - 1)
    while perf_counter_ns() < end:
        pass
    return taken_ns + perf_counter_ns() - start


def pin(cores: Sequence[int]) -> None:
    """Bind every thread of this process to some cores; no cores: the system cannot, or need not."""
    if not cores:
        return
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:  # it has just ended
            continue
