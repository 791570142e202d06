"""One part of the study, the setting it runs in, and how it times subjects or says why it cannot."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from ..cases import Case
from ..sides.workload import Call
from ..timing.clock import Stopwatch
from ..timing.environment import available_bytes
from .published import BY_HAND, FUSED_BY_HAND
from .results import PAIRED_NS, Results, Series
from .sampling import WARMING, Warm, rounds, warm_up
from .subjects import Subjects, flops, parse, score_bytes, scores

OVERHEAD_NS = 200_000  # below this a call's time says little about the time of a larger one
LONGEST = 1 / 4  # of a part's budget: what takes longer a call is named and not measured


class Unmeasurable(Exception):
    """A subject cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Setting:
    """Where a part runs: the device, the seconds it may take, and what earlier parts found."""

    device: str
    clock: Stopwatch
    subjects: Subjects
    budget_s: float
    found: Results = field(default=Results())

    def case(self, name: str, *, module: bool = False) -> Case:
        return parse(name, self.device, module=module)


@dataclass(frozen=True)
class Part:
    """A piece of the study that is measured at one go, and kept; ``weight`` is its share of the time."""

    name: str
    device: str
    weight: float
    measure: Callable[[Setting], Iterable[Series]]

    @property
    def key(self) -> str:
        return f"{self.name} on {self.device}"


@dataclass(frozen=True)
class Entry:
    """A subject on a case of a part, and how to make its call."""

    part: str
    subject: str
    case: Case
    make: Callable[[], Call]

    def series(self, quantity: str, values: Sequence[float] = (), missing: str | None = None) -> Series:
        case = f"{self.case.shape}-{self.case.mask}-{self.case.dtype}-{self.case.direction}"
        return Series(self.part, self.case.device, self.subject, case, quantity, tuple(values), missing)


def entry(part: str, subject: str, case: Case, subjects: Subjects) -> Entry:
    """A subject on inputs drawn for the case."""
    return Entry(part, subject, case, lambda: subjects.call(subject, case))


def ready(entry: Entry, setting: Setting, found: Iterable[Series] = ()) -> Warm:
    """Make the entry's call and warm it up.

    Raises:
        Unmeasurable: the subject does not support the case, it does not fit the memory or the time, or it fails.

    """
    limit_s = LONGEST * setting.budget_s
    needed = score_bytes(entry.case) if entry.subject in (BY_HAND, FUSED_BY_HAND) else 0
    if needed > available_bytes(entry.case.device):
        raise Unmeasurable(
            f"needs about {needed / 1e9:.3g} GB, and {available_bytes(entry.case.device) / 1e9:.3g} GB are free"
        )
    expected_s = expectation_s(entry, (*setting.found.series, *found))
    if expected_s is not None and expected_s > limit_s:
        raise Unmeasurable(too_long(expected_s))
    try:
        call = entry.make()
        with torch.set_grad_enabled(call.backward):
            return warm_up(call, setting.clock, WARMING * setting.budget_s)
    except NotImplementedError as error:
        raise Unmeasurable(str(error)) from error
    except Exception as error:
        raise Unmeasurable(f"failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}") from error


def too_long(seconds: float) -> str:
    """Say why a call of so many seconds is not measured."""
    return f"about {seconds:{'.0f' if seconds >= 10 else '.2g'}} s a call, too long for --time-limit"


def expectation_s(entry: Entry, found: Iterable[Series]) -> float | None:
    """Extrapolate from the largest case of the subject that was timed, not too high; None if there is none.

    Time grows as the operations where projections dominate, and as the scores where the formula does.
    """
    timed = [
        (flops(case), scores(case), min(series.values))
        for series in found
        if (series.device, series.subject, series.quantity) == (entry.case.device, entry.subject, PAIRED_NS)
        and min(series.values, default=0.0) > OVERHEAD_NS
        and (case := parse(series.case, series.device, module=entry.case.module)).dtype == entry.case.dtype
        and case.direction == entry.case.direction
    ]
    if not timed:
        return None
    work, squares, ns = max(timed)
    return ns * min(flops(entry.case) / work, scores(entry.case) / squares) * 1e-9


def time_rounds(entries: Sequence[Entry], setting: Setting) -> list[Series]:
    """Time the entries in interleaved rounds, within the budget; each gives one series, measured or missing."""
    found: dict[Entry, Series] = {}
    works: dict[Entry, Warm] = {}
    for each in entries:
        try:
            works[each] = ready(each, setting, found.values())
            found[each] = each.series(PAIRED_NS, [works[each].fastest_ns])  # until the rounds replace it
        except Unmeasurable as reason:
            found[each] = each.series(PAIRED_NS, missing=str(reason))
    backward = any(each.case.backward for each in works)
    with torch.set_grad_enabled(backward):
        taken = rounds(list(works.values()), setting.clock, setting.budget_s)
    for each, values in zip(works, taken, strict=True):
        found[each] = replace(found[each], values=values)
    return [found[each] for each in entries]


def one_by_one(entries: Iterable[Entry], setting: Setting, quantity: str) -> Iterator[tuple[Entry, Warm | Series]]:
    """Make the entries ready one after another: each with its work, or with the series that says why there is none."""
    found: list[Series] = []
    for each in entries:
        try:
            work = ready(each, setting, found)
        except Unmeasurable as reason:
            yield each, each.series(quantity, missing=str(reason))
        else:
            found.append(each.series(PAIRED_NS, [work.fastest_ns]))
            yield each, work
