"""Judging: evidence in, verdict out, and an exit code for the run. Pure, no torch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp, log, log1p

from ..plain.evidence import Evidence, Load, Measurement, Plain, Shard, TensorError
from ..plain.execution import Ceiling, Fingerprint, Work
from ..plain.printable import first_line
from .changes import compare
from .statistics import Change, PairedTest, median


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
    def compared(self) -> bool:
        """Whether base and head were both looked at."""
        return self not in (Verdict.NEW, Verdict.SKIPPED, Verdict.MISSING)


FAILING = (Verdict.ERROR, Verdict.DRIFTED, Verdict.REGRESSED, Verdict.CHANGED, Verdict.MISSING)


@dataclass(frozen=True)
class OwnThreshold:
    """A threshold of one case, instead of the run's: 0.1 = 10%. ``note`` says so among the case's reasons."""

    threshold: float
    note: str


@dataclass(frozen=True)
class Policy:
    """What the gate must not let pass, and how sure it must be. The one place of these defaults."""

    threshold: float = 0.05  # the slowdown that must not pass: 0.05 = 5%
    budget_s: float = 30.0  # the most time one measurement of a case may take
    strict: bool = False  # INCONCLUSIVE fails too
    false_alarm: float = 0.001  # probability that a run without any slowdown is failed, over all its cases and looks

    @classmethod
    def default_budget_s(cls, threshold: float) -> float:
        """Return the budget for a threshold: pairs needed grow with the inverse square of what must be told apart."""
        return max(3.0, cls.budget_s * (cls.threshold / threshold) ** 2)

    def test(self, cases: int, *, threshold: OwnThreshold | None = None, accepted_ratio: float = 1.0) -> PairedTest:
        """Return the stopping rule of a case where the run has so many.

        That some case is slower is wrong if one claim of many is, so those share the level (Bonferroni). That none is
        slower needs all cases to be certain and is wrong only if a slowed case is, so each has all of it.
        ``threshold`` is the case's own, if it has one; ``accepted_ratio`` the slowdown that a waiver accepts.
        """
        share, note = (self.threshold, None) if threshold is None else (threshold.threshold, threshold.note)
        return PairedTest(log1p(share), self.false_alarm / max(1, cases), self.false_alarm, log(accepted_ratio), note)

    @property
    def miss(self) -> float:
        """The probability that a case slowed by the threshold is called UNCHANGED, in either of two measurements."""
        return 2 * self.false_alarm

    @property
    def intervals(self) -> str:
        """Say how sure the intervals of a run are, as a clause.

        Where a case was measured twice, the second interval is reported. So an upper end has two chances to be wrong. A
        lower end has one: of a case that is not slower, the second measurement only follows a wrong lower end, and of
        one that is slower, a wrong lower end is always followed by a second measurement.
        """
        return (
            f"the lower ends of all intervals are right together with probability {1 - self.false_alarm:.1%}, "
            f"each upper end by itself with {1 - self.miss:.1%}"
        )

    def fails(self, verdict: Verdict) -> bool:
        return verdict in FAILING or (self.strict and verdict is Verdict.INCONCLUSIVE)


@dataclass(frozen=True)
class CaseResult:
    """One row of the report. Ratios are head/base (1.05 = 5% slower); times are medians per call."""

    id: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    ratio: float | None = None
    ci: tuple[float | None, float | None] = (None, None)
    pairs: int = 0
    mde: float | None = None  # the smallest slowdown this measurement could have seen: 0.03 = 3%
    base_ns: float | None = None
    head_ns: float | None = None
    errors: tuple[TensorError, ...] = ()
    base_fingerprint: Fingerprint | None = None
    head_fingerprint: Fingerprint | None = None
    work: Work | None = None
    seconds: float = 0.0
    measurements: tuple[Measurement, ...] = ()

    @property
    def margin(self) -> float | None:
        """The largest share that an error of this case has of its budget; above 1 the case has drifted."""
        return max((error.share for error in self.errors), default=None)

    @property
    def brief(self) -> "CaseResult":
        """The same with only the first line of each reason."""
        return replace(self, reasons=tuple(map(first_line, self.reasons)))


def severity(case: CaseResult) -> tuple[int, float]:
    """A key that sorts the worst first: by verdict, then the slowest."""
    return list(Verdict).index(case.verdict), -(case.ratio or 0.0)


@dataclass(frozen=True)
class Run:
    """All that a report shows."""

    base: Mapping[str, Plain]
    head: Mapping[str, Plain]
    environment: Mapping[str, Plain]
    policy: Policy
    cases: tuple[CaseResult, ...] = ()
    load: Load | None = None
    shard: Shard | None = None  # None where it is no part of anything
    notes: tuple[str, ...] = ()  # warnings about the measuring itself, a sentence each
    ceilings: tuple[Ceiling, ...] = ()
    absent: tuple[str, ...] = ()  # cases of the baseline whose device is not here

    @property
    def worst_first(self) -> list[CaseResult]:
        return sorted(self.cases, key=severity)

    @property
    def summary(self) -> dict[str, int]:
        """Count the cases by verdict, worst first; verdicts that nobody got are left out."""
        counts = Counter(case.verdict for case in self.cases)
        return {verdict.value: counts[verdict] for verdict in Verdict if counts[verdict]}

    @property
    def empty_part(self) -> str | None:
        """Say which of several shards this is, if nothing fell to it that can be compared: merging judges the whole."""
        if self.shard is None or self.shard.count == 1 or any(c.verdict is not Verdict.SKIPPED for c in self.cases):
            return None
        return f"shard {self.shard.index}/{self.shard.count} has no case to compare"

    @property
    def exit_code(self) -> int:
        """0 pass, or nothing but an empty part; 1 a case failed; 4 nothing was compared."""
        if any(self.policy.fails(case.verdict) for case in self.cases):
            return 1
        return 0 if self.empty_part or any(case.verdict.compared for case in self.cases) else 4

    @property
    def passing(self) -> str:
        """What a run that passes has found: no more than what is certain."""
        undecided = sum(case.verdict is Verdict.INCONCLUSIVE for case in self.cases)
        compared = sum(case.verdict.compared for case in self.cases)
        if undecided:
            return f"but {undecided} of {compared} cases undecided"
        waived = " that is not waived" if any(case.verdict is Verdict.WAIVED for case in self.cases) else ""
        return f"no slowdown of {100 * self.policy.threshold:g}%{waived} and no drift in {compared} cases"

    @property
    def closing_line(self) -> str:
        """Say pass or fail, and why, in one line."""
        if self.exit_code == 4:
            return "gate: ERROR, nothing was compared: no selected case is in both base and head"
        if self.empty_part:
            return f"gate: EMPTY, {self.empty_part}: python -m bench merge gives the verdict of all shards"
        counts = ", ".join(f"{n} {verdict}" for verdict, n in self.summary.items())
        if self.exit_code == 0:
            return f"gate: PASS, {self.passing} ({counts})"
        worst = self.worst_first[0].brief
        why = f": {worst.reasons[0]}" if worst.reasons else ""
        return f"gate: FAIL ({counts}); worst: {worst.id} {worst.verdict.value}{why}"


def judge(evidence: Evidence, test: PairedTest, waiver: str | None = None) -> CaseResult:
    """Reach the verdict of one case; ``waiver`` says in words what slowdown of it is accepted."""
    changes, notes = compare(evidence.base_fingerprint, evidence.head_fingerprint)
    for verdict, reason in (
        (Verdict.ERROR, evidence.error),
        (Verdict.SKIPPED, evidence.skipped),
        (Verdict.MISSING, evidence.missing),
    ):
        if reason is not None:
            return CaseResult(
                evidence.case_id,
                verdict,
                (reason, *changes),
                errors=evidence.errors,
                base_fingerprint=evidence.base_fingerprint,
                head_fingerprint=evidence.head_fingerprint,
            )
    drifts = tuple(complaint for error in evidence.errors for complaint in error.complaints)
    speed, speed_reasons = _speed(evidence.measurements, test)
    if drifts:
        verdict = Verdict.DRIFTED
    elif speed is Verdict.REGRESSED:
        verdict = speed
    elif changes:
        verdict = Verdict.CHANGED
    elif evidence.new:
        stored = evidence.base_fingerprint is not None
        known = "'s code: its stored fingerprint holds" if stored else ": checked, not compared"
        verdict, notes = Verdict.NEW, (f"not in the base{known}", *notes)
    else:
        verdict = speed
    if test.note is not None:
        notes = (test.note, *notes)
    if waiver is not None and verdict is Verdict.UNCHANGED:
        ordered = sorted(pair.log_ratio for pair in evidence.measurements[-1].pairs)
        verdict = Verdict.WAIVED if median(ordered) > test.threshold / 2 else verdict
        notes = (waiver if verdict is Verdict.WAIVED else f"needs its waiver no longer ({waiver})", *notes)
    reasons = drifts + speed_reasons + changes + notes
    if not evidence.measurements:
        return CaseResult(
            evidence.case_id,
            verdict,
            reasons,
            errors=evidence.errors,
            base_fingerprint=evidence.base_fingerprint,
            head_fingerprint=evidence.head_fingerprint,
            work=evidence.work,
        )
    last = evidence.measurements[-1]
    ordered = sorted(pair.log_ratio for pair in last.pairs)
    interval = test.interval(ordered)
    return CaseResult(
        evidence.case_id,
        verdict,
        reasons,
        ratio=exp(median(ordered)),
        ci=(_ratio(interval.low), _ratio(interval.high)),
        pairs=len(ordered),
        mde=test.detectable(ordered),
        base_ns=median(sorted(pair.base_ns_per_call for pair in last.pairs)),
        head_ns=median(sorted(pair.head_ns_per_call for pair in last.pairs)),
        errors=evidence.errors,
        base_fingerprint=evidence.base_fingerprint,
        head_fingerprint=evidence.head_fingerprint,
        work=evidence.work,
        seconds=sum(m.seconds for m in evidence.measurements),
        measurements=evidence.measurements,
    )


def _ratio(log_ratio: float | None) -> float | None:
    return None if log_ratio is None else exp(log_ratio)


def decide(measurement: Measurement, test: PairedTest) -> Change | None:
    """Say what one measurement makes certain."""
    return test.decide(sorted(pair.log_ratio for pair in measurement.pairs))


def _speed(measurements: Sequence[Measurement], test: PairedTest) -> tuple[Verdict, tuple[str, ...]]:
    """Judge the speed: a slowdown stands only if the measurement on fresh inputs shows it too."""
    if not measurements:
        return Verdict.UNCHANGED, ()
    decisions = [decide(m, test) for m in measurements]
    last = measurements[-1]
    reasons: tuple[str, ...] = ()
    if len(decisions) > 1 and decisions[-1] is not Change.SLOWER:
        reasons = ("a slowdown was measured, but not confirmed on fresh inputs",)
    if decisions[-1] is None:
        ordered = sorted(pair.log_ratio for pair in last.pairs)
        mde = test.detectable(ordered)
        seen = "too few pairs to tell any" if mde is None else f"could have seen a slowdown of {mde:.1%}"
        reasons += (f"undecided after {len(ordered)} pairs in {last.seconds:.1f} s, {seen}: raise --gate-budget",)
        return Verdict.INCONCLUSIVE, reasons
    if decisions[-1] is Change.SLOWER:
        ratio = exp(median(sorted(pair.log_ratio for pair in last.pairs)))
        return Verdict.REGRESSED, (f"{ratio - 1:.1%} slower, confirmed on fresh inputs",)
    return (Verdict.FASTER if decisions[-1] is Change.FASTER else Verdict.UNCHANGED), reasons
