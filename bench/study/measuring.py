"""How the study measures: ours, in interleaved rounds; the study's protocol, run after run; and what cannot be."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

from ..observing import compilation
from ..observing.fingerprint import fingerprint
from ..plain.collecting import no_garbage_collection
from ..suite.cases import DTYPES, Case
from ..timing.clock import Stopwatch
from ..timing.environment import available_bytes
from ..timing.measure import BURST_NS, SETTLED, WARMUP_ROUNDS
from .published import BY_HAND, COMPILED, FUSED_BY_HAND, FUSED_SDPA, PYTORCH
from .results import NotMeasured, Quantity, Results, Series
from .subjects import call, case_of

ROUNDS = 500  # at most
WARMING = 0.2  # of a budget, at most
LONGEST = 1 / 4  # of a part's budget: what takes longer a call is named and not measured
OVERHEAD_NS = 200_000  # below this a call's time says little about the time of a larger one

Work = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """What a part runs with: the device's clock, the seconds it may take, and what earlier parts found."""

    clock: Stopwatch
    budget_s: float
    found: Results


@dataclass(frozen=True)
class Entry:
    """A case of a part."""

    part: str
    case: Case

    def take(self, quantity: Quantity, values: Callable[[], Iterable[float]]) -> Series:
        """Take the values, or note why there are none: not supported, too large, too long, or failed."""
        case, taken, missing = self.case, (), ""  # type: Case, tuple[float, ...], str
        try:
            taken = tuple(values())
        except (NotMeasured, NotImplementedError) as reason:
            missing = str(reason)
        except Exception as error:  # noqa: BLE001  # whatever a kernel raises, the others are measured
            missing = f"failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        name = f"{case.shape}-{case.mask}-{case.dtype}-{case.direction}"
        return Series(self.part, case.device, case.subject, name, quantity, taken, missing)


@dataclass(frozen=True)
class Warm:
    """Work that has been called until it got no faster, and its fastest call."""

    work: Work
    fastest_ns: float


def warm_up(work: Work, clock: Stopwatch) -> Warm:
    """Call once, which may compile or load, and then until that no longer gets faster."""
    work()
    fastest = float("inf")
    for _ in range(WARMUP_ROUNDS):
        taken = clock.burst(work, 1)
        if taken > fastest * (1 - SETTLED):
            break
        fastest = taken
    return Warm(work, min(fastest, taken))


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


def time_rounds(entries: Sequence[Entry], setting: Setting) -> list[Series]:
    """Time the entries in interleaved rounds, within the budget; each gives one series, measured or missing."""
    works: dict[Entry, Warm] = {}
    found: list[Series] = []

    def warm(entry: Entry) -> list[float]:
        known = Results((*setting.found.series, *found))  # earlier entries tell which later ones take too long
        works[entry] = ready(entry, replace(setting, found=known))
        return [works[entry].fastest_ns]

    for entry in entries:
        found.append(entry.take(Quantity.PAIRED_NS, partial(warm, entry)))  # noqa: PERF401  # warm reads those so far
    taken = dict(zip(works, rounds(list(works.values()), setting.clock, setting.budget_s), strict=True))
    return [replace(one, values=taken.get(entry, ())) for entry, one in zip(entries, found, strict=True)]


def one_by_one(
    entries: Iterable[Entry], quantity: Quantity, values: Callable[[Entry], Iterable[float]]
) -> list[Series]:
    """Take a quantity of each entry."""
    return [entry.take(quantity, partial(values, entry)) for entry in entries]


def both_ways(entries: Sequence[Entry], setting: Setting, **repetitions: int) -> list[Series]:
    """Time the entries in rounds, and those that the study times by its ``protocol`` too, half of the time each."""
    half = replace(setting, budget_s=setting.budget_s / 2)
    theirs = [e for e in entries if e.case.subject in (BY_HAND, PYTORCH, COMPILED, FUSED_BY_HAND, FUSED_SDPA)]
    each_s = half.budget_s / len(theirs)
    return time_rounds(entries, half) + one_by_one(
        theirs, Quantity.PROTOCOL_NS, lambda e: protocol(ready(e, half).work, half.clock, each_s, **repetitions)
    )


def peaks(entries: Iterable[Entry], setting: Setting) -> list[Series]:
    """Measure the peak of bytes that each entry's call adds."""
    return one_by_one(
        entries, Quantity.PEAK_BYTES, lambda e: [float(peak_bytes(ready(e, setting).work, e.case.device))]
    )


def peak_bytes(work: Work, device: str) -> int:
    """Tell the peak of bytes that one call adds: by the allocator on a GPU, by its tensors' storages on a CPU."""
    compilation.forget()  # code that has compiled something is profiled
    counted = compilation.counters()
    work()
    return fingerprint(work, device=device, compiled=compilation.counters().since(counted)).peak_bytes


def ready(entry: Entry, setting: Setting) -> Warm:
    """Make the entry's call and warm it up; raises NotMeasured where the memory or the time does not suffice."""
    case, shape = entry.case, entry.case.shape
    if case.subject in (BY_HAND, FUSED_BY_HAND):  # at its peak, the formula holds four matrices of scores
        needed = 4 * DTYPES[case.dtype].itemsize * shape.batch * shape.heads * shape.queries**2
        free = available_bytes(case.device)
        if needed > free:
            raise NotMeasured(f"needs about {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free")
    within_time(case, LONGEST * setting.budget_s, setting.found)
    return warm_up(call(case), setting.clock)


def within_time(case: Case, limit_s: float, found: Results) -> None:
    """Extrapolate from the largest case of the subject that was timed; raises NotMeasured beyond the limit."""
    same = {"device": case.device, "subject": case.subject, "dtype": case.dtype, "direction": case.direction}
    timed = [
        (flops(case_of(s.subject, s.case, s.device)), min(s.values))
        for s in found.where(quantity=Quantity.PAIRED_NS, **same)
        if min(s.values, default=0.0) > OVERHEAD_NS
    ]
    if timed:
        work, ns = max(timed)
        seconds = ns * 1e-9 * flops(case) / work
        if seconds > limit_s:
            raise NotMeasured(
                f"about {seconds:{'.0f' if seconds >= 10 else '.2g'}} s a call, too long for --time-limit"
            )


def flops(case: Case) -> float:
    """Count the multiplications and additions of one forward call: scores, weighing, and a module's projections."""
    shape = case.shape
    width = shape.heads * shape.head_size
    products = 4.0 * shape.batch * width * shape.queries * shape.keys
    return products + (8.0 * shape.batch * shape.queries * width**2 if case.module else 0.0)
