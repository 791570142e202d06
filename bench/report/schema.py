"""What ``--gate-json`` holds, schema 1, as types: the writer fills them in, and the reader checks against them."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isinf

from ..judging.advice import advice
from ..judging.policy import Policy
from ..judging.roofline import Achieved, achieved
from ..judging.run import Run
from ..judging.verdict import CaseResult, Verdict
from ..plain.evidence import Evidence, Load, Plain, Shard, TensorError
from ..plain.execution import Ceiling, Compilation, Fingerprint, Pass, SdpaCall, Work

SCHEMA = 1


@dataclass(frozen=True)
class ErrorRow:
    """One tensor's error; a figure that is infinite is None."""

    head: float | None
    base: float | None
    naive: float
    budget: float
    rms: float
    rms_budget: float
    share: float | None
    bit_equal: bool | None
    complaints: tuple[str, ...]

    @classmethod
    def of(cls, error: TensorError) -> "ErrorRow":
        return cls(
            head=None if isinf(error.error) else error.error,
            base=error.base_error,
            naive=error.naive_error,
            budget=error.budget,
            rms=error.rms,
            rms_budget=error.rms_budget,
            share=None if isinf(error.share) else error.share,
            bit_equal=error.bit_equal,
            complaints=error.complaints,
        )

    def error(self, name: str) -> TensorError:
        return TensorError(
            name,
            float("inf") if self.head is None else self.head,
            self.naive,
            self.budget,
            self.rms,
            self.rms_budget,
            self.complaints,
            base_error=self.base,
            bit_equal=self.bit_equal,
        )


@dataclass(frozen=True)
class Print:
    """A fingerprint; ``ops``, ``peak_bytes`` and ``allocated_bytes`` are of both passes together."""

    ops: Mapping[str, int]
    peak_bytes: int
    allocated_bytes: int
    forward: Pass
    backward: Pass | None
    backend: str | None
    sdpa: tuple[SdpaCall, ...]
    compilation: Compilation | None

    @classmethod
    def of(cls, print_: Fingerprint | None) -> "Print | None":
        if print_ is None:
            return None
        own = (print_.forward, print_.backward, print_.backend, print_.sdpa, print_.compilation)
        return cls(print_.ops, print_.peak_bytes, print_.allocated_bytes, *own)

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.forward, self.backward, self.backend, self.sdpa, self.compilation)


@dataclass(frozen=True)
class Prints:
    """The fingerprints of both sides."""

    base: Print | None
    head: Print | None


@dataclass(frozen=True)
class CaseRow:
    """One case. Ratios are head/base, times per call."""

    id: str
    verdict: Verdict
    ratio: float | None
    ci: tuple[float | None, float | None]
    pairs: int
    mde: float | None
    base_ns: float | None
    head_ns: float | None
    error: Mapping[str, ErrorRow]
    fingerprint: Prints
    work: Work | None
    achieved: Achieved | None
    seconds: float
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, case: CaseResult, ceilings: tuple[Ceiling, ...]) -> "CaseRow":
        return cls(
            id=case.id,
            verdict=case.verdict,
            ratio=case.ratio,
            ci=case.ci,
            pairs=case.pairs,
            mde=case.mde,
            base_ns=case.base_ns,
            head_ns=case.head_ns,
            error={error.name: ErrorRow.of(error) for error in case.errors},
            fingerprint=Prints(Print.of(case.base_fingerprint), Print.of(case.head_fingerprint)),
            work=case.work,
            achieved=achieved(case.work, case.head_ns, ceilings),
            seconds=case.seconds,
            reasons=case.reasons,
        )

    @property
    def case(self) -> CaseResult:
        evidence = Evidence(
            self.id,
            errors=tuple(row.error(name) for name, row in self.error.items()),
            base_fingerprint=None if self.fingerprint.base is None else self.fingerprint.base.fingerprint,
            head_fingerprint=None if self.fingerprint.head is None else self.fingerprint.head.fingerprint,
            work=self.work,
        )
        return CaseResult(
            evidence,
            self.verdict,
            self.reasons,
            ratio=self.ratio,
            ci=self.ci,
            pairs=self.pairs,
            mde=self.mde,
            base_ns=self.base_ns,
            head_ns=self.head_ns,
            seconds=self.seconds,
        )


@dataclass(frozen=True)
class Document:
    """The whole file. ``warnings``, ``summary`` and ``exit_code`` follow from the rest."""

    schema: int
    base: Mapping[str, Plain]
    head: Mapping[str, Plain]
    environment: Mapping[str, Plain]
    policy: Policy
    shard: Shard | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    load: Load | None
    ceilings: tuple[Ceiling, ...]
    absent: tuple[str, ...]
    cases: tuple[CaseRow, ...]
    summary: Mapping[str, int]
    exit_code: int

    @classmethod
    def of(cls, run: Run) -> "Document":
        return cls(
            schema=SCHEMA,
            base=run.base,
            head=run.head,
            environment=run.environment,
            policy=run.policy,
            shard=run.shard,
            warnings=advice(run),
            notes=run.notes,
            load=run.load,
            ceilings=run.ceilings,
            absent=run.absent,
            cases=tuple(CaseRow.of(case, run.ceilings) for case in run.worst_first),
            summary=run.summary,
            exit_code=run.exit_code,
        )

    @property
    def run(self) -> Run:
        cases = tuple(row.case for row in self.cases)
        return Run(
            self.base,
            self.head,
            self.environment,
            self.policy,
            cases,
            self.load,
            shard=self.shard,
            notes=self.notes,
            ceilings=self.ceilings,
            absent=self.absent,
        )
