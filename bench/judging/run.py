"""A run: all that a report shows, and the exit code that follows from it. Pure, no torch."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..plain.evidence import Load, Plain, Shard
from ..plain.execution import Ceiling
from .policy import Policy
from .verdict import CaseResult, Verdict, severity


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
            return f"but {undecided} of {self.timed} timed cases undecided"
        if not self.timed:
            return f"no drift in {compared} cases, none of which is timed"
        waived = " that is not waived" if any(case.verdict is Verdict.WAIVED for case in self.cases) else ""
        untimed = "" if self.timed == compared else f" in {self.timed} cases"
        return f"no slowdown of {100 * self.policy.threshold:g}%{waived}{untimed} and no drift in {compared} cases"

    @property
    def timed(self) -> int:
        """How many cases were timed on both sides; the other compared ones were only checked."""
        return sum(case.verdict.compared and case.ratio is not None for case in self.cases)

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
