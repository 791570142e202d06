"""What the gate needs of two sides, and how one case is checked and timed on them, whatever processes they are in."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Protocol

from ..plain.collecting import no_garbage_collection
from ..plain.evidence import Measurement
from ..timing.clock import Clock, Stopwatch
from ..timing.measure import StoppingRule
from ..twins.bursts import measure_bursts
from ..twins.party import Local, Party, SideFailed, Unsupported
from .cases import Case
from .examiner import Examiner, Judged
from .side import Side
from .worker import Shown, Worker


class Sides(Protocol):
    """Head, base and examiner, and how they are timed."""

    @property
    def head(self) -> Party: ...

    @property
    def base(self) -> Party | None:
        """The base; None where only the head is checked."""

    @property
    def examiner(self) -> Party: ...

    @property
    def scratch(self) -> Path | None:
        """Where processes exchange tensors; None where all are one process."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the verdicts must know of how they were measured."""

    def ready(self) -> None:
        """Replace processes that have ended.

        Raises:
            CannotDo: a side does not load again.

        """

    def measure(self, rule: StoppingRule, budget_s: float, *, host: bool = False) -> Measurement:
        """Time both sides on the case that was checked last, until the rule is content or the budget is spent.

        ``host``: what the host does to make a call, in place of what a device does.

        Raises:
            SideFailed: a side raised, ended, or wrote to its inputs.

        """

    @property
    def again(self) -> Callable[[], AbstractContextManager["Sides"]] | None:
        """Makes the same sides anew, so that an effect of one copy of the code cannot pass for a slowdown.

        None where a measurement is of many copies already.
        """


@dataclass
class InProcess:
    """Sides that are all in this process: for checks without a base, and for tests."""

    head: Party
    base: Party | None
    examiner: Party
    scratch: None = None
    now_ns: Callable[[], int] = perf_counter_ns  # against which budgets are held

    @property
    def notes(self) -> tuple[str, ...]:
        return notes_of(self.head, self.base)

    def ready(self) -> None:
        pass

    def measure(self, rule: StoppingRule, budget_s: float, *, host: bool = False) -> Measurement:
        assert self.base is not None  # a case without a base is not measured
        with no_garbage_collection():
            return measure_bursts(self.base, self.head, rule, budget_s, now_ns=self.now_ns, host=host)

    def again(self) -> AbstractContextManager[Sides]:
        return nullcontext(self)


def in_process(
    head: Side,
    base: Side | None = None,
    *,
    clock_of: Callable[[str], Stopwatch] = Clock.of,
    now_ns: Callable[[], int] = perf_counter_ns,
) -> InProcess:
    """Return sides that are imported in this process, or made up in it."""
    parties = [None if side is None else Local(side.label, Worker(side, clock_of)) for side in (head, base)]
    assert parties[0] is not None  # there is always a head
    return InProcess(parties[0], parties[1], Local("the check", Examiner()), now_ns=now_ns)


def check(sides: Sides, case: Case, attempt: int, *, with_base: bool, stored: Mapping[str, float] | None) -> Judged:
    """Run a case on fresh inputs, on both sides at once, and compare results and what was executed.

    Raises:
        SideFailed: a side raised or misbehaved; ``fingerprint`` is the head's, where the head did not.
        Unsupported: a kernel from outside does not support the case.

    """
    examiner, scratch = sides.examiner, sides.scratch
    parties = {"head": sides.head}
    if with_base and sides.base is not None:
        parties["base"] = sides.base
    parameters = sides.head.ask("parameters", case) if case.module else {}
    given = examiner.ask("pose", case, attempt, parameters, None if scratch is None else scratch / "workload.pt")
    for label, party in parties.items():
        party.send("check", given, None if scratch is None else scratch / f"{label}.pt")
    examiner.send("expect")
    shown: dict[str, Shown] = {}
    failures: list[Exception] = []
    for label, party in parties.items():
        try:
            shown[label] = party.receive()
        except (SideFailed, Unsupported) as failure:
            failures.append(failure)
    examiner.receive()
    if failures:
        first = failures[0]
        if isinstance(first, SideFailed) and "head" in shown:
            first.fingerprint = shown["head"].fingerprint
        raise first
    judged: Judged = examiner.ask("judge", shown["head"], shown.get("base"), stored)
    return _with_more_chances(judged, parties.get("base"))


def _with_more_chances(judged: Judged, base: Party | None) -> Judged:
    """Call a base that has repeated so far some more times, before a head that does not is blamed."""
    head_calls = judged.head.calls
    if base is None or judged.base is None or judged.base.calls is None or head_calls is None:
        return judged
    if judged.base.calls.unrepeated or not head_calls.unrepeated:
        return judged
    calls = replace(judged.base.calls, unrepeated=base.ask("unrepeated"))
    return replace(judged, base=replace(judged.base, calls=calls))


def notes_of(*sides: Party | None) -> tuple[str, ...]:
    """Return what the clocks of sides have to say, each thing once."""
    return tuple(dict.fromkeys(note for side in sides if side is not None for note in side.ask("notes")))
