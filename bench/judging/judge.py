"""Turns the evidence about one case into its verdict. Pure, no torch."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from math import ceil, exp
from typing import Any

from ..plain.evidence import Evidence, Measurement, Timing
from ..plain.printable import counted
from .fingerprint_diff import compare
from .replication import LAYOUT, MOST_TWINS, replicating
from .statistics import Change, PairedTest, median
from .verdict import CaseResult, HostTime, Verdict, worst


def judge_case(evidence: Evidence, test: PairedTest) -> CaseResult:
    """Reach the verdict of one case."""
    verdict, reasons = _verdict(evidence, test)
    result = CaseResult(evidence, verdict, reasons)
    return _with_figures(result, test) if evidence.measurements else result


def left_over(selected: Iterable[str], done: Collection[str], gone: Iterable[str]) -> list[Evidence]:
    """Return what is known of cases that were selected and have no result, and of those that the head has lost."""
    unfinished = "was selected and has no result: the run stopped before it"
    return [
        *(Evidence(id_, error=unfinished) for id_ in selected if id_ not in done),
        *(Evidence(id_, missing="is in the base and gone from the head") for id_ in gone),
    ]


def deciding(measurements: Sequence[Measurement], test: PairedTest) -> int | None:
    """Return which of the measurements decides a case, None if another is needed; see ``vote``."""
    changes = [test.decide(measurement.ordered) for measurement in measurements]
    return vote(changes, near=test.is_near(measurements[0].ordered))


def vote(changes: Sequence[Change | None], *, near: bool) -> int | None:
    """Return the index of the measurement that decides: a clear first one, or one that agrees with an earlier one.

    Pairs of twins differ by some tenths of a percent, however long they are measured. So one pair does not decide that
    a case is slower or faster, nor that it is unchanged if its median lies between half the threshold and all of it, as
    ``near`` says of the first. If three all differ, the one that is neither slower nor faster decides.
    None: another measurement is needed.
    """
    votes = [change if change in (Change.SLOWER, Change.FASTER) else None for change in changes]
    last = len(votes) - 1
    if last == 0:
        return None if votes[0] is not None or (near and changes[0] is Change.SAME) else 0
    if votes[last] in votes[:last]:
        return last
    return votes.index(None) if last == 2 else None


def needs_replication(measurements: Sequence[Measurement], test: PairedTest) -> bool:
    """Whether the measurements show a slowdown that memory layout alone could explain."""
    slower = [one for one in measurements if test.decide(one.ordered) is Change.SLOWER]
    if test.replication_level is None or test.decide(_decisive(measurements, test).ordered) is not Change.SLOWER:
        return False
    return min(median(one.ordered) for one in slower) < test.accepted + LAYOUT


def _verdict(evidence: Evidence, test: PairedTest) -> tuple[Verdict, tuple[str, ...]]:
    """Pick the worst verdict that the evidence supports; reasons for it come first."""
    changes, notes = compare(evidence.base_fingerprint, evidence.head_fingerprint)
    for verdict, reason in (
        (Verdict.ERROR, evidence.error),
        (Verdict.SKIPPED, evidence.skipped),
        (Verdict.MISSING, evidence.missing),
    ):
        if reason is not None:
            return verdict, (reason, *changes)
    drifts = tuple(complaint for error in evidence.errors for complaint in error.complaints)
    drifts += () if evidence.differs is None else (evidence.differs,)
    speed, speed_reasons = _speeds(evidence, test)
    if drifts:
        verdict = Verdict.DRIFTED
    elif speed is Verdict.REGRESSED:
        verdict = speed
    elif changes:
        verdict = Verdict.CHANGED
    elif evidence.new:
        stored = evidence.base_fingerprint is not None
        known = "'s code: its stored fingerprint holds" if stored else ": checked, not compared"
        verdict, notes = Verdict.NEW, (*(() if evidence.remarks else (f"not in the base{known}",)), *notes)
    else:
        verdict = speed
    if test.note is not None:
        notes = (test.note, *notes)
    if test.waiver is not None and verdict is Verdict.UNCHANGED and evidence.timed:
        if any(median(_last(timing, own).ordered) > own.threshold / 2 for _, timing, own in _clocks(evidence, test)):
            verdict, notes = Verdict.WAIVED, (test.waiver, *notes)
        else:
            notes = (f"no longer needs its waiver ({test.waiver})", *notes)
    untimed = () if evidence.timed else ("checked, not timed",)
    model = (f"as in {evidence.model}",) if evidence.model else ()
    return verdict, drifts + speed_reasons + changes + untimed + model + evidence.remarks + notes


def _clocks(evidence: Evidence, test: PairedTest) -> list[tuple[str, Timing, PairedTest]]:
    """Return each time that is judged: the prefix of its reasons, what was measured, and the rule."""
    clocks = [("", evidence.timing, test)]
    if evidence.host is not None and test.host is not None:
        clocks.append(("host: ", evidence.host, test.host))
    return clocks


def _speeds(evidence: Evidence, test: PairedTest) -> tuple[Verdict, tuple[str, ...]]:
    """Judge the speed by each clock; a faster host is given as a reason, but does not make a case FASTER."""
    reasons: list[str] = []
    verdicts: list[Verdict] = []
    for name, timing, own in _clocks(evidence, test):
        verdict, why = _speed(timing, own)
        if name and verdict is Verdict.FASTER:
            verdict, why = Verdict.UNCHANGED, (f"{1 - exp(median(_last(timing, own).ordered)):.1%} faster", *why)
        verdicts.append(verdict)
        reasons += [f"{name}{reason}" for reason in why]
    return worst(*verdicts), tuple(reasons)


def _speed(timing: Timing, test: PairedTest) -> tuple[Verdict, tuple[str, ...]]:
    """Judge the speed: a slowdown stands only if other twins show it too."""
    measurements = timing.measurements
    if not measurements:
        return Verdict.UNCHANGED, ()
    if timing.replication is not None:
        return _replicated(timing.replication, test)
    decisive = _decisive(measurements, test)
    change = test.decide(decisive.ordered)
    if change is Change.SLOWER:
        slowdown, pairs = f"{exp(median(decisive.ordered)) - 1:.1%} slower", len(decisive.pairs)
        # A single measurement shows that only where each of its pairs was measured in processes of its own.
        shown = "confirmed by new twins" if len(measurements) > 1 else f"in {counted(pairs, 'pair')} of processes"
        return Verdict.REGRESSED, (f"{slowdown}, {shown}",)
    found = {test.decide(measurement.ordered) for measurement in measurements} - {change}
    names = {Change.SLOWER: "a slowdown", Change.FASTER: "a speed-up"}
    reasons = tuple(
        f"{name} was measured, but not confirmed by new twins" for one, name in names.items() if one in found
    )
    if change is None:
        mde, pairs = test.detectable(decisive.ordered), len(decisive.pairs)
        if mde is None:
            needed = f"{test.least_pairs} take about {ceil(test.least_pairs * decisive.timed_seconds / pairs)} s"
            seen, cure = f"too few pairs to see any slowdown ({needed})", ", or give its calls less work"
        else:
            seen, cure = f"could have seen a slowdown of {mde:.1%}", ""
        taken = f"{counted(pairs, 'pair')} in {decisive.seconds:.1f} s"
        reasons += (f"undecided after {taken}, {seen}: raise --gate-budget{cure}",)
        return Verdict.INCONCLUSIVE, reasons
    return (Verdict.FASTER if change is Change.FASTER else Verdict.UNCHANGED), reasons


def _replicated(replication: Measurement, test: PairedTest) -> tuple[Verdict, tuple[str, ...]]:
    """Judge a slowdown by fresh pairs of twins; each gave one of the pairs of ``replication``."""
    ordered, twins = replication.ordered, len(replication.pairs)
    change = replicating(test).decide(ordered)
    if change is Change.SLOWER:
        return Verdict.REGRESSED, (f"{exp(median(ordered)) - 1:.1%} slower, in {_twins(twins)}",)
    if change is not None:
        return Verdict.UNCHANGED, (f"a slowdown was measured twice, and not in {_twins(twins, 'further ')}",)
    # More time would bring no more pairs of twins.
    cure = "raise --gate-budget" if twins < MOST_TWINS else "give it a larger threshold of its own"
    said = f"a slowdown was measured twice, and {_twins(twins, 'further ')} left it undecided: {cure}"
    return Verdict.INCONCLUSIVE, (said,)


def _twins(count: int, which: str = "") -> str:
    return counted(count, f"{which}pair of twins", f"{which}pairs of twins")


def _decisive(measurements: Sequence[Measurement], test: PairedTest) -> Measurement:
    """Return the measurement that decides, or the last one if measuring stopped undecided."""
    index = deciding(measurements, test)
    return measurements[-1 if index is None else index]


def _last(timing: Timing, test: PairedTest) -> Measurement:
    """Return the measurement whose figures are reported."""
    return timing.replication or _decisive(timing.measurements, test)


def _with_figures(result: CaseResult, test: PairedTest) -> CaseResult:
    timing, of_host = result.evidence.timing, result.evidence.host
    result = replace(result, **_figures(timing, test), seconds=timing.seconds)
    if of_host is None or test.host is None:
        return result
    host = HostTime(verdict=_speed(of_host, test.host)[0], **_figures(of_host, test.host))
    return replace(result, host=host, seconds=timing.seconds + of_host.seconds)


def _figures(timing: Timing, test: PairedTest) -> dict[str, Any]:
    """Return the fields that ``CaseResult`` and ``HostTime`` share."""
    last = _last(timing, test)
    if timing.replication is not None:
        test = replicating(test)
    interval = test.interval(last.ordered)
    return {
        "ratio": exp(median(last.ordered)),
        "ci": (_ratio(interval.low), _ratio(interval.high)),
        "pairs": len(last.pairs),
        "mde": test.detectable(last.ordered),
        "base_ns": median(sorted(pair.base_ns_per_call for pair in last.pairs)),
        "head_ns": median(sorted(pair.head_ns_per_call for pair in last.pairs)),
    }


def _ratio(log_ratio: float | None) -> float | None:
    return None if log_ratio is None else exp(log_ratio)
