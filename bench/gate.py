"""The gate's engine: one case through check, comparison and timing, on both sides. Needs no pytest."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from .cases import DTYPES, Case, lacks
from .checking import compilation, drift
from .checking.drift import Results
from .checking.fingerprint import execute
from .judging.statistics import Change, PairedTest
from .judging.verdict import CaseResult, decide, judge
from .plain.evidence import Evidence, Measurement
from .plain.execution import Fingerprint
from .sides.side import Side
from .sides.work import work_of
from .sides.workload import Call, Workload, bind, build, bytes_needed
from .timing import environment
from .timing.clock import Clock, Stopwatch
from .timing.environment import available_bytes
from .timing.measure import measure
from .timing.processes import ProcessPairs
from .timing.remote import SideFailed


class CaseFailed(Exception):
    """A side raised, or wrote to its inputs; the message says which and what it said.

    ``head_fingerprint`` is what the head executed, where that is known: a base that raised does not hide it.
    """

    head_fingerprint: Fingerprint | None = None


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

    ``stored_fingerprints`` stand in for a base that lacks a case or raises. ``base_error`` says why there is no base
    though one was asked for. ``elsewhere`` is where both sides are timed and the base is checked, if not in this
    process. ``distort`` is given each side's label and call before they are timed; the self-test injects known
    slowdowns there.
    """

    head: Side
    base: Side | None
    stored_errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # case id -> tensor -> error
    stored_fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)  # those that hold here, by case id
    base_error: str | None = None
    clock_of: Callable[[str], Stopwatch] = Clock.of
    available_bytes: Callable[[str], int] = available_bytes
    elsewhere: ProcessPairs | None = None
    distort: Callable[[str, Callable[[], None]], Callable[[], None]] = lambda _, call: call

    def compare(self, case: Case, test: PairedTest, budget_s: float, waiver: str | None = None) -> CaseResult:
        """Check and time both sides of one case, each measurement within the budget, and reach its verdict."""
        try:
            evidence = self._compare(case, test, budget_s)
        except CaseFailed as failure:
            evidence = Evidence(case.id, error=str(failure), head_fingerprint=failure.head_fingerprint)
        except CaseSkipped as reason:
            evidence = Evidence(case.id, skipped=str(reason))
        if evidence.base_fingerprint is None:
            evidence = replace(evidence, base_fingerprint=self.stored_fingerprints.get(case.id))
        return judge(evidence, test, waiver)

    def _compare(self, case: Case, test: PairedTest, budget_s: float) -> Evidence:
        checked = self.check(case)
        if self.base_error is not None:
            return replace(checked.evidence, error=self.base_error)
        if checked.base is None:
            return replace(checked.evidence, new=True)
        first = self._measure(checked, test, budget_s)
        if decide(first, test) is not Change.SLOWER:
            return replace(checked.evidence, measurements=(first,))
        try:
            again = self.check(case, attempt=1)
        except CaseSkipped as reason:  # what was measured must not pass for what could not be
            return replace(checked.evidence, error=f"was slower, and could not be measured again: {reason}")
        found = again.evidence if any(e.complaints for e in again.evidence.errors) else checked.evidence
        return replace(found, measurements=(first, self._measure(again, test, budget_s)))

    def check(self, case: Case, attempt: int = 0) -> Checked:
        """Run each side once on fresh inputs, and compare output, gradients and what was executed.

        Raises:
            CaseFailed: a side raised or wrote to its inputs.
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
            base = base_results = base_print = None
            if self.base is not None and has(self.base, case):
                try:
                    base, base_results, base_print = self._run_base(self.base, workload)
                except CaseFailed as failure:
                    failure.head_fingerprint = head_print
                    raise
            stored = self.stored_errors.get(case.id) if attempt == 0 else None  # they are of the first inputs
            errors = drift.judge(head_results, exact, naive, base_results, stored=stored)
        evidence = Evidence(
            case.id,
            errors=errors,
            base_fingerprint=base_print,
            head_fingerprint=head_print,
            work=work_of(case, workload.d_feedforward),
        )
        return Checked(workload, head, base, evidence)

    def _run_base(self, base: Side, workload: Workload) -> tuple[Call, Results, Fingerprint]:
        if self.elsewhere is None:
            return _run(base, workload)
        with _blaming(base.label):
            return bind(workload, base), *self.elsewhere.check_base(workload)

    def _measure(self, checked: Checked, test: PairedTest, budget_s: float) -> Measurement:
        workload, base = checked.workload, checked.base
        assert base is not None  # a case without a base is not measured
        with (
            torch.set_grad_enabled(workload.case.backward),
            _blaming("a side, while it was timed,"),
            _unwritten(workload, "a side, while it was timed,"),
        ):
            order = random.Random()  # from the system: nothing that repeats may know the tosses
            if self.elsewhere is not None:
                return self.elsewhere.measure(workload, test=test, budget_s=budget_s, order=order)
            return measure(
                self.distort("base", base),
                self.distort("head", checked.head),
                clock=self.clock_of(workload.case.device),
                rule=test,
                budget_s=budget_s,
                order=order,
            )


def has(side: Side, case: Case) -> bool:
    """Say whether a side has the case's subject, and that supports the case."""
    if case.module:
        return case.subject in side.modules
    return case.subject in side.kernels and lacks(side.kernels[case.subject], case) is None


def _run(side: Side, workload: Workload) -> tuple[Call, Results, Fingerprint]:
    """Run one side once for its results and once for its fingerprint."""
    with _blaming(side.label), _unwritten(workload, side.label):
        try:
            call = bind(workload, side)
            return call, *execute(call, workload.case.device)
        except NotImplementedError as error:
            if workload.case.subject in side.undeclared:
                raise CaseSkipped(str(error)) from error
            raise


@contextmanager
def _blaming(who: str) -> Iterator[None]:
    """Turn whatever is raised inside into a CaseFailed that names who raised it."""
    try:
        yield
    except (CaseFailed, CaseSkipped):
        raise
    except SideFailed as failure:
        raise CaseFailed(str(failure)) from failure
    except (Exception, SystemExit) as error:
        raise CaseFailed(f"{who} raised {type(error).__name__}: {error}") from error


@contextmanager
def _unwritten(workload: Workload, who: str) -> Iterator[None]:
    """Fail the case if any of its tensors is not the same afterwards, bit for bit; autograd may have raised over it."""
    before = workload.snapshot()
    raised: Exception | None = None
    try:
        yield
    except Exception as error:  # noqa: BLE001  # it goes on below, unless a write explains it
        raised = error
    if workload.differs_from(before):
        raise CaseFailed(f"{who} wrote to its inputs") from raised
    if raised is not None:
        raise raised
