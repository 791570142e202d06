"""What some parts measure in a way of their own: accuracy, the first calls of a process, errors, long context."""

import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context

import torch
from torch import Tensor

from attention import reference

from ..observing.fingerprint import fingerprint
from ..suite.cases import Case
from ..suite.oracle import oracle
from ..suite.workload import build, parameter_sizes
from ..timing.clock import Clock
from ..timing.machine import steady_allocator
from .measuring import Entry, Setting, one_by_one, time_rounds, within_time
from .published import BY_HAND, PYTORCH
from .results import NotMeasured, Quantity, Series
from .subjects import SIDE, call, study_data

DRAWS = 200
FIRST_CALLS, PROCESSES = 30, 8  # eight is the fewest for which a 95% interval exists
PROCESS_S, TIME_LIMIT_S = 2.0, 120.0  # of a fresh process: at least, and at most


def accuracy(entries: Sequence[Entry], _: Setting) -> Iterator[Series]:
    """A1: how far everything is from PyTorch and from the float64 oracle, over many draws of the study's data."""
    data = [[t.unsqueeze(1) for t in study_data(seed, entries[0].case.device)] for seed in range(DRAWS)]
    exact = [reference(q, k, v, causal=True).squeeze(1) for q, k, v in data]

    def outs(entry: Entry) -> list[Tensor]:
        return [call(entry.case, seed).forward().view(exact[0].shape) for seed in range(DRAWS)]

    def differences(entry: Entry, others: list[Tensor]) -> list[Tensor]:
        return [(out - other).abs() for out, other in zip(outs(entry), others, strict=True)]

    errors = one_by_one(entries, Quantity.ERROR, lambda e: [float(d.max()) for d in differences(e, exact)])
    yield from errors
    (theirs,) = (outs(entry) for entry in entries if entry.case.subject == PYTORCH)
    others = [e for e, error in zip(entries, errors, strict=True) if error.values and e.case.subject != PYTORCH]
    yield from one_by_one(others, Quantity.MEAN_DIFFERENCE, lambda e: [float(d.mean()) for d in differences(e, theirs)])
    hand = [entry for entry in others if entry.case.subject == BY_HAND]
    yield from one_by_one(hand, Quantity.DIFFERENCE, lambda e: [float(d.max()) for d in differences(e, theirs)])
    yield from one_by_one(hand, Quantity.CLOSE, lambda e: map(float, map(torch.allclose, outs(e), theirs)))


def first_calls(entries: Sequence[Entry], setting: Setting) -> Iterator[Series]:
    """A4: the first calls of fresh processes, one series each, as many processes as the time allows, up to eight."""
    (entry,) = entries
    end = time.monotonic() + setting.budget_s
    for number in range(PROCESSES):
        series = entry.take(Quantity.CALL_NS, lambda: _in_fresh_process(entry.case, end - time.monotonic()))
        if number == 0 or series.values:
            yield series
        if series.missing:
            return


def _in_fresh_process(case: Case, left_s: float) -> list[float]:
    if left_s < PROCESS_S:
        raise NotMeasured("a fresh process takes too long for --time-limit")
    with get_context("spawn").Pool(1) as pool:
        return pool.apply_async(time_first_calls, (case, FIRST_CALLS, torch.get_num_threads())).get(TIME_LIMIT_S)


def time_first_calls(case: Case, calls: int, threads: int) -> list[float]:
    """Make the call, and return the ns of the first, second, ... time that this process makes it."""
    torch.set_num_threads(threads)
    steady_allocator()
    with torch.no_grad():
        work, clock = call(case), Clock.of(case.device)
        return [clock.burst(work, 1) for _ in range(calls)]


def speed_and_error(entries: Sequence[Entry], setting: Setting) -> list[Series]:
    """Time every kernel on the same inputs, in the same rounds, and hold its output to the float64 oracle."""
    case = entries[0].case
    exact = oracle(build(case, parameter_sizes(case, SIDE)))["out"]
    return time_rounds(entries, setting) + one_by_one(
        entries, Quantity.ERROR, lambda e: [float((call(e.case).forward() - exact).abs().max())]
    )


def long_context(entries: Sequence[Entry], setting: Setting) -> list[Series]:
    """Measure the peak of a single call, unless earlier parts say that there is no time for it."""

    def peak(entry: Entry) -> list[float]:
        within_time(entry.case, setting.budget_s, setting.found)
        return [float(fingerprint(call(entry.case), device=entry.case.device).peak_bytes)]

    return one_by_one(entries, Quantity.PEAK_BYTES, peak)
