"""How two parties are timed in turn: in bursts, and on which cores."""

import os
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns

from ..plain.evidence import Measurement
from ..timing.measure import Burst, Never, StoppingRule, measure
from .party import Party, SideFailed

ALONE_S = 0.2  # of timing a head that nothing is compared with
SPINNING = 0.1  # of a call's time, added to both sides before a slowdown is injected


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
    every = available_cores()
    timed_on = every[-threads:]
    if every:
        os.sched_setaffinity(0, timed_on)
    try:
        return measure_bursts(base, head, rule, budget_s, cores=(timed_on, every), host=host)
    finally:
        if every:
            os.sched_setaffinity(0, every)


def measure_alone(head: Party) -> Measurement:
    """Time the head as both sides of a measurement that nobody judges."""
    return measure_bursts(head, head, Never(), ALONE_S)


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


def available_cores() -> tuple[int, ...]:
    """The cores that this process may use, in order; none where the system does not say."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def pin(cores: Sequence[int]) -> None:
    """Bind every thread of this process to some cores; no cores: the system cannot, or need not."""
    if not cores:
        return
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:  # it has just ended
            continue
