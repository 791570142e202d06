"""How two parties are timed in turn, and on which cores."""

import os
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns

from ..plain.evidence import Measurement
from ..timing.measure import Burst, StoppingRule, Timed, measure
from .party import Party, SideFailed


def measure_bursts(
    base: Party,
    head: Party,
    rule: StoppingRule,
    budget_s: float,
    *,
    cores: tuple[Sequence[int], Sequence[int]] = ((), ()),
    now_ns: Callable[[], int] = perf_counter_ns,
) -> Measurement:
    """Time bursts of both sides in turn; ``cores`` are those to be timed on, and those to go back to."""
    timed_on, every = cores

    def burst_of(party: Party) -> Burst:
        return lambda calls: Timed(*party.ask("burst", calls))

    try:
        resolution_ns = max(party.ask("settle", timed_on) for party in (base, head))
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


def measure_twins(base: Party, head: Party, rule: StoppingRule, budget_s: float, threads: int) -> Measurement:
    """Time both in turn, on the same cores as this process, so that every burst follows the same switch."""
    every = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
    timed_on = every[-threads:]
    if every:
        os.sched_setaffinity(0, timed_on)
    try:
        return measure_bursts(base, head, rule, budget_s, cores=(timed_on, every))
    finally:
        if every:
            os.sched_setaffinity(0, every)


def pin(cores: Sequence[int]) -> None:
    """Bind every thread of this process to some cores; no cores: the system cannot, or need not."""
    if not cores:
        return
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:  # it has just ended
            continue
