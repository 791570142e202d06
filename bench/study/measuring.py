"""Two ways to time a case, interleaved rounds and the study's protocol; peaks of memory; and what cannot be taken."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from ..observing import compilation
from ..observing.fingerprint import fingerprint
from ..plain.collecting import no_garbage_collection
from ..suite.cases import DTYPES, Case
from ..suite.cost import cost_of
from ..timing.clock import Stopwatch
from ..timing.environment import available_bytes
from ..timing.measure import BURST_NS, burst_of, warm_up
from .published import BY_HAND, COMPILED, FUSED_BY_HAND, FUSED_SDPA, PYTORCH
from .results import NotMeasured, Quantity, Results, Series
from .subjects import call

ROUNDS = 500  # at most
WARMING = 0.2  # of a budget, at most
LONGEST = 1 / 4  # of a part's budget: what takes longer a call is named and not measured
OVERHEAD_NS = 200_000  # below this a call's time says little about the time of a larger one

Work = Callable[[], object]
Values = Callable[[Case], Iterable[float]]


@dataclass(frozen=True)
class Setting:
    """What a part runs with: its name, the device's clock, its seconds at most, and what was found before."""

    part: str
    clock: Stopwatch
    budget_s: float
    found: Results


@dataclass(frozen=True)
class Warm:
    """Work that has been called until it got no faster, and its fastest call."""

    work: Work
    fastest_ns: float


def take(case: Case, setting: Setting, quantity: Quantity, values: Values) -> Series:
    """Take the values of a case, or note why there are none: not supported, too large, too long, or failed."""
    taken, missing = (), ""  # type: tuple[float, ...], str
    try:
        taken = tuple(values(case))
    except (NotMeasured, NotImplementedError) as reason:
        missing = str(reason)
    except Exception as error:  # noqa: BLE001  # whatever a kernel raises, the others are measured
        missing = f"failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return Series(setting.part, case, quantity, taken, missing)


def take_each(cases: Iterable[Case], setting: Setting, quantity: Quantity, values: Values) -> list[Series]:
    """Take a quantity of each case."""
    return [take(case, setting, quantity, values) for case in cases]


def rounds(works: Sequence[Warm], clock: Stopwatch, budget_s: float) -> list[tuple[float, ...]]:
    """Time a burst of each in random order, round after round: ns a call, as many of each.

    Stops before a round that would overrun the budget; one round is always taken. Garbage collection is off meanwhile.
    """
    order = random.Random(0)
    values: list[list[float]] = [[] for _ in works]
    start_ns, longest_ns = clock.now_ns(), 0
    with no_garbage_collection():
        for taken in range(ROUNDS if works else 0):
            round_ns = clock.now_ns()
            if taken and (round_ns - start_ns + longest_ns) * 1e-9 > budget_s:
                break
            for i in order.sample(range(len(works)), len(works)):
                calls = ceil(BURST_NS / max(1.0, works[i].fastest_ns))
                values[i].append(max(1.0, clock.burst(works[i].work, calls)))
            longest_ns = max(longest_ns, clock.now_ns() - round_ns)
    return [tuple(v) for v in values]


def protocol(
    work: Work, clock: Stopwatch, budget_s: float, *, warmups: int = 0, runs: int, calls: int = 1
) -> tuple[float, ...]:
    """The study's protocol: warm up, wait, then time runs of so many calls, one after another: ns a call of each run.

    Fewer warm-ups and runs where they do not fit the budget, at least one run.
    """
    start_ns = clock.now_ns()
    values: list[float] = []
    with no_garbage_collection():
        while warmups and (clock.now_ns() - start_ns) * 1e-9 <= WARMING * budget_s:
            clock.burst(work, 1)
            warmups -= 1
        while not values or (len(values) < runs and (clock.now_ns() - start_ns) * 1e-9 <= budget_s):
            values.append(max(1.0, clock.burst(work, calls)))
    return tuple(values)


def time_rounds(cases: Iterable[Case], setting: Setting) -> list[Series]:
    """Time the cases in interleaved rounds, within the budget; each gives one series, measured or missing."""
    works: dict[Case, Warm] = {}
    found: list[Series] = []

    def warm(case: Case) -> list[float]:
        known = Results((*setting.found.series, *found))  # earlier cases tell which later ones take too long
        works[case] = ready(case, replace(setting, found=known))
        return [works[case].fastest_ns]

    for case in cases:
        found.append(take(case, setting, Quantity.PAIRED_NS, warm))  # noqa: PERF401  # warm reads those so far
    taken = dict(zip(works, rounds(list(works.values()), setting.clock, setting.budget_s), strict=True))
    return [replace(one, values=taken.get(one.case, ())) for one in found]


def both_ways(cases: Sequence[Case], setting: Setting, **repetitions: int) -> list[Series]:
    """Time the cases in rounds, and those that the study times by its ``protocol`` too, half of the time each."""
    half = replace(setting, budget_s=setting.budget_s / 2)
    theirs = [case for case in cases if case.subject in (BY_HAND, PYTORCH, COMPILED, FUSED_BY_HAND, FUSED_SDPA)]
    each_s = half.budget_s / len(theirs)
    return time_rounds(cases, half) + take_each(
        theirs,
        setting,
        Quantity.PROTOCOL_NS,
        lambda c: protocol(ready(c, half).work, half.clock, each_s, **repetitions),
    )


def peaks(cases: Iterable[Case], setting: Setting) -> list[Series]:
    """Measure the peak of bytes that a call adds: by the allocator on a GPU, by its tensors' storages on a CPU."""

    def peak(case: Case) -> list[float]:
        check_fits(case, setting.budget_s / 2, setting.found)  # two calls are made
        compilation.forget()  # code that has compiled something is profiled
        work, counted = call(case), compilation.counters()
        work()
        compiled = compilation.counters().since(counted)
        return [float(fingerprint(work, device=case.device, compiled=compiled).peak_bytes)]

    return take_each(cases, setting, Quantity.PEAK_BYTES, peak)


def ready(case: Case, setting: Setting) -> Warm:
    """Make the call of a case and warm it up; raises NotMeasured where the memory or the time does not suffice."""
    check_fits(case, LONGEST * setting.budget_s, setting.found)
    work = call(case)
    work()  # may compile or load
    _, fastest_ns = warm_up(burst_of(work, setting.clock))
    return Warm(work, fastest_ns)


def check_fits(case: Case, limit_s: float, found: Results) -> None:
    """Raise NotMeasured where the memory does not suffice, or where a call would take longer than the limit.

    Its time is extrapolated from the largest case that was timed and differs in the shape alone.
    """
    shape = case.shape
    if case.subject in (BY_HAND, FUSED_BY_HAND):  # at its peak, the formula holds four matrices of scores
        needed = 4 * DTYPES[case.dtype].itemsize * shape.batch * shape.heads * shape.queries**2
        free = available_bytes(case.device)
        if needed > free:
            raise NotMeasured(f"needs about {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free")
    timed = [
        (flops(s.case), min(s.values))
        for s in found.where(quantity=Quantity.PAIRED_NS)
        if s.case == replace(case, shape=s.case.shape) and min(s.values, default=0.0) > OVERHEAD_NS
    ]
    work, ns = max(timed, default=(1.0, 0.0))
    seconds = ns * 1e-9 * flops(case) / work
    if seconds > limit_s:
        raise NotMeasured(f"about {seconds:{'.0f' if seconds >= 10 else '.2g'}} s a call, too long for --time-limit")


def flops(case: Case) -> float:
    """Count the operations of a call as if nothing were masked: the formula computes every score."""
    return cost_of(replace(case, mask="full")).flops
