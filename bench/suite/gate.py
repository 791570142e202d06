"""The gate's engine: one case through check, comparison and timing, on both sides. Needs no pytest."""

from dataclasses import dataclass, replace

from ..judging.judge import judge_case
from ..judging.statistics import PairedTest
from ..judging.verdict import CaseResult
from ..plain.errors import CannotDo
from ..plain.evidence import Evidence, Measurement, Timing
from ..plain.execution import Fingerprint
from ..timing.measure import StoppingRule
from ..twins.between import measure_until_decided, replicate
from ..twins.bursts import measure_alone
from ..twins.party import SideFailed, Unsupported
from .base import Base
from .cases import Case
from .sides import Sides, check
from .workload import bytes_needed


@dataclass(frozen=True)
class Gate:
    """Checks and compares one case at a time. ``base`` is None where there is only the head to check.

    Where the base's code lacks a case or raises, its stored fingerprints take its place. A slowdown, or what may be
    one, is measured again by the same sides made anew.
    """

    sides: Sides
    base: Base | None = None

    def compare(self, case: Case, test: PairedTest, budget_s: float) -> CaseResult:
        """Check and time both sides of one case, each measurement within the budget, and reach its verdict."""
        try:
            evidence = self._compare(case, test, budget_s)
        except SideFailed as failure:
            evidence = Evidence(case.id, error=str(failure), head_fingerprint=failure.fingerprint)
        except Unsupported as reason:
            evidence = Evidence(case.id, skipped=str(reason))
        if evidence.base_fingerprint is None and self.base is not None:
            evidence = replace(evidence, base_fingerprint=self.base.stored_fingerprints.get(case.id))
        return judge_case(evidence, test)

    def _compare(self, case: Case, test: PairedTest, budget_s: float) -> Evidence:
        evidence = self.check(case)
        if self.base is not None and self.base.error is not None:
            return replace(evidence, error=self.base.error)
        if evidence.base_fingerprint is None:
            return replace(evidence, new=True)
        if not case.timed:
            return replace(evidence, timed=False)
        drifted: list[Evidence] = []
        timing = self._timing(case, test, budget_s, drifted, evidence.head_fingerprint)
        host = None
        if test.host is not None:
            host = self._timing(case, test.host, budget_s, drifted, evidence.head_fingerprint, host=True)
        evidence = drifted[-1] if drifted else evidence
        return replace(evidence, measurements=timing.measurements, replication=timing.replication, host=host)

    def _timing(
        self,
        case: Case,
        test: PairedTest,
        budget_s: float,
        drifted: list[Evidence],
        executed: Fingerprint | None,
        *,
        host: bool = False,
    ) -> Timing:
        """Time the case that was checked last, by the clock of its device or what the host does to make a call.

        What leaves its budget on the fresh inputs of a further measurement is added to ``drifted``.

        Raises:
            SideFailed: a side raised, ended, or wrote to its inputs; it may be slower, and cannot be measured again.

        """

        def measure_in(attempt: int, rule: StoppingRule, seconds: float) -> Measurement:
            if attempt == 0 or self.sides.again is None:
                return self.sides.measure(rule, seconds, host=host)
            try:
                with self.sides.again() as others:
                    again = replace(self, sides=others).check(case, attempt)
                    measured = others.measure(rule, seconds, host=host)
            except (Unsupported, CannotDo) as reason:  # it must not end as a skip, nor as a pass
                raise SideFailed(f"may be slower, and could not be measured again: {reason}", executed) from reason
            # What leaves its budget as the base's does, bit for bit, is the luck of these inputs and no change.
            if any(error.complaints and not error.bit_equal for error in again.errors):
                drifted.append(again)
            return measured

        if self.sides.again is None:
            return Timing((measure_in(0, test, budget_s),))
        measurements = measure_until_decided(measure_in, test, budget_s)
        return Timing(measurements, replicate(measure_in, measurements, test, budget_s))

    def check(self, case: Case, attempt: int = 0) -> Evidence:
        """Run each side on fresh inputs, and compare output, gradients and what was executed.

        Raises:
            SideFailed: a side raised or wrote to its inputs; the head refuses what the base serves, or returns memory
                that it uses again.
            Unsupported: the device cannot do it, it needs more memory than there is, or something that a kernel from
                outside does not support.

        """
        sides, base = self.sides, self.base
        try:
            sides.ready()
            self._skip_what_does_not_fit(case)
            with_base = base is not None and sides.base is not None and sides.base.ask("supports", case)
            # Stored errors are for the inputs of the first attempt.
            stored = None if base is None or attempt else base.stored_errors.get(case.id)
            try:
                judged = check(sides, case, attempt, with_base=with_base, stored=stored)
            except Unsupported as reason:
                if not with_base:
                    raise
                self._hold_to_base(reason)
                judged = check(sides, case, attempt, with_base=False, stored=stored)  # it is new if the head serves it
        except CannotDo as refusal:  # a process that an earlier case ended does not load again
            raise SideFailed(str(refusal)) from refusal
        calls = judged.head.calls
        if calls is not None and calls.overwritten:
            what = ", ".join(calls.overwritten)
            raise SideFailed(f"head returns memory that its next call overwrites: {what}", judged.head)
        return Evidence(
            case.id,
            model=case.model,
            errors=judged.errors,
            base_fingerprint=judged.base,
            head_fingerprint=judged.head,
            work=judged.work,
        )

    def _hold_to_base(self, reason: Unsupported) -> None:
        """Fail the case that was tried last if the base serves it: what the head lost must not be skipped.

        Raises:
            SideFailed: the base serves it, so the head is the side that refused.

        """
        assert self.sides.base is not None  # it was tried
        try:
            self.sides.base.ask("unrepeated")  # calls it once more
        except SideFailed:
            return
        raise SideFailed(f"head refuses what the base serves: {reason}") from reason

    def time_head(self) -> Measurement:
        """Time the head on the case that was checked last, as both sides of a measurement that nobody judges."""
        return measure_alone(self.sides.head)

    def _skip_what_does_not_fit(self, case: Case) -> None:
        examiner = self.sides.examiner
        if case.device == "cuda" and (unsupported := examiner.ask("lacks", case)) is not None:
            raise Unsupported(unsupported)
        needed = bytes_needed(case)
        available: int = examiner.ask("available_bytes", case.device)
        if needed > available:
            raise Unsupported(f"needs about {needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are free")
