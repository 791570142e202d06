"""Verdicts, and the result of a case that carries one. Pure, no torch."""

from dataclasses import dataclass, replace
from enum import StrEnum

from ..plain.evidence import Evidence, Measurement, TensorError
from ..plain.execution import Cost, Fingerprint
from ..plain.printable import first_line


class Verdict(StrEnum):
    """What is said of a case, worst first."""

    ERROR = "ERROR"
    DRIFTED = "DRIFTED"
    REGRESSED = "REGRESSED"
    CHANGED = "CHANGED"
    MISSING = "MISSING"
    INCONCLUSIVE = "INCONCLUSIVE"
    WAIVED = "WAIVED"
    FASTER = "FASTER"
    NEW = "NEW"
    UNCHANGED = "UNCHANGED"
    SKIPPED = "SKIPPED"

    @property
    def tone(self) -> str:
        """How reports show it: their style or colour is that of the tone."""
        return _TONES_OF_PASSING.get(self, "fail")

    @property
    def what_to_do(self) -> str | None:
        """What to do about it, if anything. No text from outside gets in here."""
        return _WHAT_TO_DO.get(self)

    @property
    def fails(self) -> bool:
        """Whether one case of it fails the run."""
        return self not in _TONES_OF_PASSING

    @property
    def rank(self) -> int:
        """Its place among the verdicts, the worst first."""
        return list(Verdict).index(self)

    @property
    def compared(self) -> bool:
        """Whether base and head were compared."""
        return self not in (Verdict.NEW, Verdict.SKIPPED, Verdict.MISSING)


_TONES_OF_PASSING = {
    Verdict.INCONCLUSIVE: "doubt",
    Verdict.WAIVED: "doubt",
    Verdict.FASTER: "gain",
    Verdict.NEW: "new",
    Verdict.UNCHANGED: "pass",
    Verdict.SKIPPED: "skip",
}
_WHAT_TO_DO = {
    Verdict.ERROR: "read what was raised, and reproduce it with the command that the case carries.",
    Verdict.DRIFTED: "the numbers are wrong, whatever the speed: mend the code.",
    Verdict.REGRESSED: "reproduce it with the command that the case carries. Mend the code or, if the slowdown is "
    "wanted, accept it by a `[[waiver]]` with a bound, a reason and a last day.",
    Verdict.CHANGED: "find out why another backend ran or more memory was held. There is no waiver: if it is wanted, a "
    "maintainer merges over this check.",
    Verdict.MISSING: "restore the case. If its removal is wanted, a maintainer merges over this check.",
    Verdict.INCONCLUSIVE: "give it more time with `--gate-budget`, or a machine with less else to do. Where more than "
    "`--gate-undecided` of the cases are so, the run has compared too little to pass.",
    Verdict.WAIVED: "nothing now; the waiver says until when it is accepted.",
}
FAILING = tuple(verdict for verdict in Verdict if verdict.fails)


@dataclass(frozen=True)
class HostTime:
    """The host's time to make a call that a device works on, judged by itself; figures as in ``CaseResult``.

    ``verdict`` is None where it was not judged, as in reports of version 0.2.0.
    """

    base_ns: float
    head_ns: float
    verdict: Verdict | None = None
    ratio: float | None = None
    ci: tuple[float | None, float | None] = (None, None)
    pairs: int = 0
    mde: float | None = None


@dataclass(frozen=True)
class CaseResult:
    """One row of the report: what is said of a case, and the evidence. Ratios are head/base (1.05 = 5% slower).

    Ratio, interval, pairs and times (medians per call) are those of the last measurement. The ratio is the median of
    the pairs' own, not the ratio of both times. A result that was read back from a report has all of them and no
    measurements.
    """

    evidence: Evidence
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    ratio: float | None = None
    ci: tuple[float | None, float | None] = (None, None)
    pairs: int = 0
    mde: float | None = None  # the smallest slowdown that this measurement tells from none: 0.03 = 3%
    base_ns: float | None = None
    head_ns: float | None = None
    seconds: float = 0.0  # of all measurements
    host: HostTime | None = None  # where the times above are a device's

    @property
    def id(self) -> str:
        return self.evidence.case_id

    @property
    def errors(self) -> tuple[TensorError, ...]:
        return self.evidence.errors

    @property
    def base_fingerprint(self) -> Fingerprint | None:
        return self.evidence.base_fingerprint

    @property
    def head_fingerprint(self) -> Fingerprint | None:
        return self.evidence.head_fingerprint

    @property
    def work(self) -> Cost | None:
        return self.evidence.work

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return self.evidence.measurements

    @property
    def head_by_ratio_ns(self) -> float | None:
        """The base's time times the ratio, so that the figures agree; ``head_ns`` is the head's median as measured."""
        return None if self.base_ns is None or self.ratio is None else self.base_ns * self.ratio

    @property
    def margin(self) -> float | None:
        """The largest share that an error of this case has of its budget; above 1 the case has drifted."""
        return max((error.share for error in self.errors), default=None)

    @property
    def brief(self) -> "CaseResult":
        """The same result with only the first line of each reason."""
        return replace(self, reasons=tuple(map(first_line, self.reasons)))


def worst(*verdicts: Verdict) -> Verdict:
    return min(verdicts, key=lambda verdict: verdict.rank)


def severity(case: CaseResult) -> tuple[int, float]:
    """A sort key that puts the worst first: by verdict, then by ratio."""
    return case.verdict.rank, -(case.ratio or 0.0)
