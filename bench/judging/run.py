"""A run: everything that a report shows, and its exit code. Pure, no torch."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..plain.arguments import PROGRAM
from ..plain.evidence import Load, Plain, Shard
from ..plain.execution import Ceiling
from ..plain.printable import counted
from .policy import Policy
from .undecided import Undecided
from .verdict import CaseResult, Verdict, severity

PASS, PASS_IN_PART, FAIL, EMPTY, ERROR = "PASS", "PASS IN PART", "FAIL", "EMPTY", "ERROR"


@dataclass(frozen=True)
class Run:
    """Everything that a report shows."""

    base: Mapping[str, Plain]
    head: Mapping[str, Plain]
    environment: Mapping[str, Plain]
    policy: Policy
    cases: tuple[CaseResult, ...] = ()
    load: Load | None = None
    shard: Shard | None = None  # None where the run is whole
    notes: tuple[str, ...] = ()  # warnings about the measurement, one sentence each
    ceilings: tuple[Ceiling, ...] = ()
    absent: tuple[str, ...] = ()  # cases of the baseline whose device is not here
    options: tuple[str, ...] = ()  # command-line options that compare one of these cases again in the same way

    @property
    def worst_first(self) -> list[CaseResult]:
        return sorted(self.cases, key=severity)

    @property
    def summary(self) -> dict[str, int]:
        """Count the cases by verdict, worst first; a verdict that no case has is left out."""
        counts = Counter(case.verdict for case in self.cases)
        return {verdict.value: counts[verdict] for verdict in Verdict if counts[verdict]}

    @property
    def undecided(self) -> Undecided:
        return Undecided.of(self.cases, self.policy, self.load)

    @property
    def is_part(self) -> bool:
        """Whether this is one of several shards: merging judges the whole."""
        return self.shard is not None and self.shard.count > 1

    @property
    def empty_part(self) -> str | None:
        """Say which shard this is, if it is one of several and was dealt no case that can be compared."""
        if self.shard is None or not self.is_part or any(c.verdict is not Verdict.SKIPPED for c in self.cases):
            return None
        return f"shard {self.shard.index}/{self.shard.count} has no case to compare"

    @property
    def exit_code(self) -> int:
        """0: pass, or an empty shard; 1: a case failed; 4: nothing was compared, or too many cases are undecided."""
        if any(case.verdict.fails for case in self.cases):
            return 1
        return 0 if self.not_compared is None else 4

    @property
    def not_compared(self) -> str | None:
        """Say why the run does not count as a comparison; None if it does. One shard may leave any number undecided."""
        if self.empty_part is None and not self.undecided.compared:
            return "nothing was compared: no selected case is in both base and head"
        return self.undecided.said if self.undecided.too_many and not self.is_part else None

    @property
    def word(self) -> str:
        """The verdict of the run; a pass is one in part where most cases were skipped."""
        if self.exit_code == 4:
            return ERROR
        if self.empty_part:
            return EMPTY
        if self.exit_code == 1:
            return FAIL
        return PASS_IN_PART if 2 * self._skipped > len(self.cases) else PASS

    @property
    def sentence(self) -> str:
        """What the verdict of the run rests on; a pass claims only what is certain."""
        if self.word == FAIL:
            counts = (f"{n} {verdict}" for verdict, n in self.summary.items() if Verdict(verdict).fails)
            return f"{', '.join(counts)} of {self.undecided.compared} compared cases"
        if self.word == PASS_IN_PART:
            return f"most was skipped ({self._skipped} of {len(self.cases)} cases): {self._certain}"
        return self.not_compared or self.empty_part or self._certain

    @property
    def _skipped(self) -> int:
        return sum(case.verdict is Verdict.SKIPPED for case in self.cases)

    @property
    def _certain(self) -> str:
        undecided = self.undecided
        if undecided.count:
            whole = f": {PROGRAM} merge says if that is too many" if undecided.too_many else ""
            return f"but {undecided.count} of {undecided.timed} timed cases undecided{whole}"
        if not undecided.timed:
            return f"no drift in {counted(undecided.compared, 'case')}; none is timed"
        waived = " that is not waived" if any(case.verdict is Verdict.WAIVED for case in self.cases) else ""
        untimed = "" if undecided.timed == undecided.compared else f" in {counted(undecided.timed, 'case')}"
        percent = 100 * self.policy.threshold
        return f"no slowdown of {percent:g}%{waived}{untimed} and no drift in {counted(undecided.compared, 'case')}"

    @property
    def closing_line(self) -> str:
        """Say pass or fail, and why, in one line."""
        counts = ", ".join(f"{n} {verdict}" for verdict, n in self.summary.items())
        if self.word == FAIL:
            worst = self.worst_first[0].brief
            why = f": {worst.reasons[0]}" if worst.reasons else ""
            return f"gate: FAIL ({counts}); worst: {worst.id} {worst.verdict.value}{why}"
        more = f" ({counts})"
        if self.word == EMPTY:
            more = f": {PROGRAM} merge gives the verdict of all shards"
        elif self.word == ERROR:
            more = f": {self.undecided.cure}" if self.undecided.count else ""
        return f"gate: {self.word}, {self.sentence}{more}"
