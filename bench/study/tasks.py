"""What some parts measure in a way of their own: accuracy, the first calls of a process, and errors."""

import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context

import torch
from torch import Tensor

from attention import reference

from ..suite.cases import Case
from ..suite.oracle import oracle
from ..suite.workload import build
from ..timing.clock import Clock
from ..timing.environment import hold_still
from .measuring import Setting, Values, take, take_each, time_rounds
from .published import BY_HAND, PYTORCH
from .results import NotMeasured, Quantity, Series
from .subjects import call, study_data

DRAWS = 200
FIRST_CALLS, PROCESSES = 30, 8  # eight is the fewest for which a 95% interval exists
PROCESS_S, TIME_LIMIT_S = 2.0, 120.0  # of a fresh process: at least, and at most


def accuracy(cases: Sequence[Case], setting: Setting) -> Iterator[Series]:
    """A1: how far everything is from PyTorch and from the float64 oracle, over many draws of the study's data."""
    data = [[t.unsqueeze(1) for t in study_data(seed, cases[0].device)] for seed in range(DRAWS)]
    exact = [reference(q, k, v, causal=True).squeeze(1) for q, k, v in data]

    def outs(case: Case) -> list[Tensor]:
        return [call(case, seed).forward().view(exact[0].shape) for seed in range(DRAWS)]

    def apart(others: list[Tensor], summary: Callable[[Tensor], Tensor]) -> Values:
        return lambda case: [float(summary((a - b).abs())) for a, b in zip(outs(case), others, strict=True)]

    errors = take_each(cases, setting, Quantity.ERROR, apart(exact, torch.max))
    yield from errors
    (theirs,) = (outs(case) for case in cases if case.subject == PYTORCH)
    others = [error.case for error in errors if error.values and error.subject != PYTORCH]
    yield from take_each(others, setting, Quantity.MEAN_DIFFERENCE, apart(theirs, torch.mean))
    hand = [case for case in others if case.subject == BY_HAND]
    yield from take_each(hand, setting, Quantity.DIFFERENCE, apart(theirs, torch.max))
    yield from take_each(hand, setting, Quantity.CLOSE, lambda c: map(float, map(torch.allclose, outs(c), theirs)))


def speed_and_error(cases: Sequence[Case], setting: Setting) -> list[Series]:
    """Time every kernel on the same inputs, in the same rounds, and hold its output to the float64 oracle."""
    exact = oracle(build(cases[0], {}))["out"]
    return time_rounds(cases, setting) + take_each(
        cases, setting, Quantity.ERROR, lambda c: [float((call(c).forward() - exact).abs().max())]
    )


def first_calls(cases: Sequence[Case], setting: Setting) -> Iterator[Series]:
    """A4: the first calls of fresh processes, one series each, as many processes as the time allows, up to eight."""
    (case,) = cases
    end = time.monotonic() + setting.budget_s
    for number in range(PROCESSES):
        series = take(case, setting, Quantity.CALL_NS, lambda c: _in_fresh_process(c, end - time.monotonic()))
        if number == 0 or series.values:
            yield series
        if series.missing:
            return


def _in_fresh_process(case: Case, left_s: float) -> list[float]:
    if left_s < PROCESS_S:
        raise NotMeasured("a fresh process takes too long for --time-limit")
    with get_context("spawn").Pool(1) as pool:
        taken = pool.apply_async(time_first_calls, (case, FIRST_CALLS, torch.get_num_threads())).get(TIME_LIMIT_S)
        pool.close()
        pool.join()  # a process that is killed leaves semaphores, of which Python warns
    return taken


def time_first_calls(case: Case, calls: int, threads: int) -> list[float]:
    """Make the call, and return the ns of the first, second, ... time that this process makes it."""
    hold_still(threads)
    with torch.no_grad():
        work, clock = call(case), Clock.of(case.device)
        return [clock.burst(work, 1) for _ in range(calls)]
