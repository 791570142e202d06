"""The gate's engine: one case through check, comparison and timing, on both sides. Needs no pytest."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from .cases import DTYPES, Case
from .checking import compilation, drift
from .checking.alike import Results
from .checking.calls import execute, held_to_calls, unrepeated
from .checking.earlier import noting_earlier
from .judging.judge import decide, judge_case
from .judging.statistics import Change, PairedTest
from .judging.verdict import CaseResult
from .plain.errors import CannotDo
from .plain.evidence import Evidence, Measurement
from .plain.execution import Fingerprint
from .sides.base import Base
from .sides.side import WAY_OUT, Side
from .sides.watched import watching
from .sides.work import work_of
from .sides.workload import Call, Workload, bind, build, bytes_needed
from .timing import environment
from .timing.clock import Clock, Stopwatch
from .timing.environment import available_bytes
from .timing.measure import measure
from .timing.processes import ProcessPairs
from .timing.remote import SideFailed
from .timing.witness import Statement, Witness


class CaseFailed(Exception):
    """A side raised or wrote to its inputs; the message names the side and what happened.

    ``head_fingerprint`` is what the head executed, where that is known: it is reported even if the base raised.
    """

    def __init__(self, message: str, head_fingerprint: Fingerprint | None = None) -> None:
        super().__init__(message)
        self.head_fingerprint = head_fingerprint


class CaseSkipped(Exception):
    """The case cannot be run here; the message says why."""


@dataclass(frozen=True)
class Checked:
    """A case after its check: its work, one call for each side that has it, and what was found."""

    workload: Workload
    head: Call
    base: Call | None
    evidence: Evidence


@dataclass(frozen=True)
class Gate:
    """Checks and compares one case at a time. ``base`` is None where there is only the head to check.

    Where the base's code lacks a case or raises, its stored fingerprints take its place. Both sides are timed, and the
    base is checked, in this process or in those of ``elsewhere``. Of what ran in this process the ``witness`` is told.
    ``anew`` makes a gate whose sides are loaded again, in the other order: a slowdown is confirmed there, so that an
    effect of one copy of the code (its place on the heap, say) cannot pass for one. ``distort`` may wrap each side's
    call before it is timed; the self-test injects known slowdowns there. ``graphed``, if given, turns a call into its
    replay, which is timed instead.
    """

    head: Side
    base: Base | None
    clock_of: Callable[[str], Stopwatch] = Clock.of
    available_bytes: Callable[[str], int] = available_bytes
    elsewhere: ProcessPairs | None = None
    witness: Witness | None = None
    anew: Callable[[], "Gate"] | None = None
    distort: Callable[[str, Callable[[], None]], Callable[[], None]] = lambda _, call: call
    graphed: Callable[[Callable[[], None]], Callable[[], None]] | None = None

    def compare(self, case: Case, test: PairedTest, budget_s: float, waiver: str | None = None) -> CaseResult:
        """Check and time both sides of one case, each measurement within the budget, and reach its verdict."""
        try:
            evidence = self._compare(case, test, budget_s)
        except CaseFailed as failure:
            evidence = Evidence(case.id, error=str(failure), head_fingerprint=failure.head_fingerprint)
        except CaseSkipped as reason:
            evidence = Evidence(case.id, skipped=str(reason))
        if evidence.base_fingerprint is None and self.base is not None:
            evidence = replace(evidence, base_fingerprint=self.base.stored_fingerprints.get(case.id))
        return judge_case(evidence, test, waiver)

    def _compare(self, case: Case, test: PairedTest, budget_s: float) -> Evidence:
        checked = self.check(case)
        if self.base is not None and self.base.error is not None:
            return replace(checked.evidence, error=self.base.error)
        if self.base is None or not self.base.supports(case):
            return replace(checked.evidence, new=True)
        if not case.timed:
            return replace(checked.evidence, timed=False)
        first = self._measure(checked, test, budget_s)
        if decide(first, test) is not Change.SLOWER:
            return replace(checked.evidence, measurements=(first,))
        try:
            other = self if self.anew is None else self.anew()
            again = other.check(case, attempt=1)
        except (CaseSkipped, CannotDo) as reason:  # a slowdown was measured: it must not end as a skip
            return replace(checked.evidence, error=f"was slower, and could not be measured again: {reason}")
        found = again.evidence if any(e.complaints for e in again.evidence.errors) else checked.evidence
        return replace(found, measurements=(first, other._measure(again, test, budget_s)))  # noqa: SLF001  # its like

    def check(self, case: Case, attempt: int = 0) -> Checked:
        """Run each side on fresh inputs, and compare output, gradients and what was executed.

        Raises:
            CaseFailed: a side raised or wrote to its inputs, or the head returns memory that it uses again.
            CaseSkipped: the device cannot do it, it needs more memory than there is, or something that a kernel from
                outside does not support.

        """
        if (unsupported := environment.lacks(case.device, DTYPES[case.dtype])) is not None:
            raise CaseSkipped(unsupported)
        needed, available = bytes_needed(case), self.available_bytes(case.device)
        if needed > available:
            raise CaseSkipped(f"needs about {needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are free")
        compilation.forget()  # before both sides, so that neither compiles in what is timed
        with torch.set_grad_enabled(case.backward):
            with _blaming("head"):
                workload = build(case, self.head, attempt)
            with _blaming("the check"):
                exact, naive = drift.oracle(workload), drift.yardstick(workload)
            head, head_results, head_print = _run(self.head, workload)
            base = base_results = base_print = stored = None
            if self.base is not None and attempt == 0:  # stored errors are for the inputs of the first attempt
                stored = self.base.stored_errors.get(case.id)
            if self.base is not None and self.base.supports(case):
                try:
                    base, base_results, base_print = self._run_base(self.base, workload)
                except CaseFailed as failure:
                    failure.head_fingerprint = head_print
                    raise
            if self.witness is not None and base_results is not None and self.witness.wants(case) and attempt == 0:
                said = {"head": Statement(head_results, head_print)}
                assert base_print is not None  # it ran
                self.witness.note(workload, said | {"base": Statement(base_results, base_print)})
            errors = drift.hold_to_budget(
                head_results, exact, naive, base_results, stored=stored, score=workload.largest_score
            )
            wrong = [error.name for error in errors if error.complaints]
            head_print = noting_earlier(head_print, workload, head_results, exact, wrong)
            if base is not None and base_results is not None and base_print is not None:
                wrong = [error.name for error in errors if error.base is not None and error.base > error.budget]
                base_print = noting_earlier(base_print, workload, base_results, exact, wrong)
                base_print = self._with_more_chances(base, base_print, head_print, workload, base_results)
        if head_print.calls is not None and head_print.calls.overwritten:
            what = ", ".join(head_print.calls.overwritten)
            raise CaseFailed(f"head returns memory that its next call overwrites: {what}", head_print)
        evidence = Evidence(
            case.id,
            model=case.model,
            errors=held_to_calls(errors, head_print.calls),
            base_fingerprint=base_print,
            head_fingerprint=head_print,
            work=work_of(case, workload.d_feedforward),
        )
        return Checked(workload, head, base, evidence)

    def _run_base(self, base: Base, workload: Workload) -> tuple[Call | None, Results, Fingerprint]:
        if self.elsewhere is None:
            assert base.side is not None  # it supports a case
            return _run(base.side, workload)
        with _blaming("base"):
            return None, *self.elsewhere.check_base(workload)

    def _with_more_chances(
        self, call: Call, base: Fingerprint, head: Fingerprint, workload: Workload, results: Results
    ) -> Fingerprint:
        """Call a base that has repeated so far some more times, before a head that does not is blamed."""
        if base.calls is None or base.calls.unrepeated or head.calls is None or not head.calls.unrepeated:
            return base

        def again() -> Results:
            if self.elsewhere is not None:
                return self.elsewhere.check_base(workload)[0]
            with call.view:
                return call.results()

        with _blaming("base"):
            return replace(base, calls=replace(base.calls, unrepeated=unrepeated(again, results)))

    def _measure(self, checked: Checked, test: PairedTest, budget_s: float) -> Measurement:
        workload, base = checked.workload, checked.base
        with (
            torch.set_grad_enabled(workload.case.backward),
            _blaming("a side, while it was timed,"),
            _unwritten(workload, "a side, while it was timed,"),
            _unshared("a side, while it was timed,"),
        ):
            order = random.Random()  # seeded by the system, so that no tosses repeat
            if self.elsewhere is not None:
                return self.elsewhere.measure(workload, test=test, budget_s=budget_s, order=order)
            assert base is not None  # a case without one is not measured
            return measure(
                self._timed("base", base),
                self._timed("head", checked.head),
                clock=self.clock_of(workload.case.device),
                rule=test,
                budget_s=budget_s,
                order=order,
                views=(base.view, checked.head.view),
            )

    def _timed(self, label: str, call: Call) -> Callable[[], None]:
        """Return what is timed of a side."""
        if self.graphed is None:
            return self.distort(label, call)
        with call.view:
            return self.distort(label, self.graphed(call))


def _run(side: Side, workload: Workload) -> tuple[Call, Results, Fingerprint]:
    """Run one side for its results, its fingerprint, and the comparison of its calls."""
    with _blaming(side.label), _unwritten(workload, side.label):
        try:
            with _unshared(side.label):
                call = bind(workload, side)
                return call, *execute(call, workload)
        except NotImplementedError as error:
            if workload.case.subject in side.undeclared:
                raise CaseSkipped(str(error)) from error
            raise


@contextmanager
def _blaming(who: str) -> Iterator[None]:
    """Turn an exception raised inside into a CaseFailed that names who raised it."""
    try:
        yield
    except (CaseFailed, CaseSkipped):
        raise
    except SideFailed as failure:
        raise CaseFailed(str(failure)) from failure
    except (Exception, SystemExit) as error:
        raise CaseFailed(f"{who} raised {type(error).__name__}: {error}") from error


@contextmanager
def _unshared(who: str) -> Iterator[None]:
    """Fail the case if the code inside changes what both sides share, and restore it."""
    with watching() as changed:
        yield
    if changed:
        raise CaseFailed(f"{who} changes {changed[0]} when it is called, which both sides share: {WAY_OUT}")


@contextmanager
def _unwritten(workload: Workload, who: str) -> Iterator[None]:
    """Fail the case if one of its tensors has changed afterwards, even if autograd raised because of that."""
    before = workload.snapshot()
    raised: Exception | None = None
    try:
        yield
    except Exception as error:  # noqa: BLE001  # raised again below, unless a write explains it
        raised = error
    if workload.differs_from(before):
        raise CaseFailed(f"{who} wrote to its inputs") from raised
    if raised is not None:
        raise raised
