"""One run of the gate over tests that use ``benchmark``: base and head in step, a verdict a test."""

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from ..judging.fingerprint_diff import NOTHING
from ..judging.judge import judge_case, left_over
from ..judging.policy import Policy
from ..judging.replication import Replications
from ..judging.run import Run
from ..judging.statistics import PairedTest
from ..judging.verdict import CaseResult
from ..plain.arguments import DEFAULT_THREADS
from ..plain.errors import CannotDo
from ..plain.evidence import Evidence, Measurement, Plain, Shard
from ..timing.budget import SharedBudget
from ..timing.machine_load import LoadMeter
from ..twins.bursts import measure_alone
from ..twins.party import SideFailed
from .meeting import Arrived, Finished, Own, Step
from .opening import Selection, opened
from .pair import failure_of, finished
from .reports import error_line, error_of, skip_of
from .settings import SessionSettings
from .variation import Again

IF_IN_USE = (
    " (base and head run at once: if the other side uses it, let each process take its own, such as port 0 or tmp_path)"
)


@dataclass
class Session:
    """State of one run."""

    settings: SessionSettings
    environment: Mapping[str, Plain]
    resources: ExitStack = field(default_factory=ExitStack)
    replications: Replications = field(init=False)
    results: list[CaseResult] = field(default_factory=list)
    has_started: bool = False
    sharing: int = 0  # cases of the same run that are compared elsewhere, and share the level

    def __post_init__(self) -> None:
        self.replications = Replications(self.settings.policy.false_alarm)

    def start(self, selection: Selection) -> None:
        """Find the base, and start both sessions.

        Raises:
            CannotDo: the base cannot be had, or lacks modules that the head has built, or a session does not start.

        """
        self.selection = selection
        self.exceptions = self.settings.exceptions(selection.tests)
        self.sides = self.resources.enter_context(opened(self.settings, selection))
        self.lent = self.sides.lent()
        self.pair = self.sides.pair
        self.compared = [id_ for id_ in selection.tests if self.pair.collected["base"].tests.get(id_)]
        self.budget = SharedBudget(self.settings.policy.budget_s, len(self.compared))
        self.load = LoadMeter()
        self.has_started = True

    def run(self, node_id: str, following: str | None, *, uses_fixture: bool) -> tuple[CaseResult | str, list[Any]]:
        """Run one test on both sides; returns its result, or why a test without the fixture has no reports, and those.

        The reports are the head's.
        """
        try:
            self.pair.parties.ready()
        except CannotDo as refusal:
            return self._add(Evidence(node_id, error=str(refusal)), Own()) if uses_fixture else str(refusal), []
        follows = {"head": following}
        if uses_fixture and node_id in self.pair.collected["base"].tests:
            follows["base"] = self._next_of_base(node_id)
        steps = self.pair.begin(node_id, follows)
        head = steps["head"]
        if not uses_fixture:
            return str(head) if isinstance(head, SideFailed) else "", list(finished(head).reports)
        own = head.own if isinstance(head, Arrived) else Own()
        evidence, timed = self._compare(node_id, steps, own)
        if isinstance(head, Arrived):
            head = self.pair.go_on("head", timed)
            if evidence.error is None and (failed := failure_of(head)) is not None:
                evidence = replace(evidence, error=f"failed in the head: {failed}")
        if isinstance(steps.get("base"), Arrived):
            failed = failure_of(self.pair.go_on("base", timed))
            if failed is not None and evidence.error is None:
                evidence = replace(evidence, remarks=(*evidence.remarks, f"failed in the base: {failed}"))
        return self._add(evidence, own), list(finished(head).reports)

    def _next_of_base(self, node_id: str) -> str | None:
        """Return the next test that the base runs, so that it keeps what tests share as long as the head does."""
        at = self.compared.index(node_id) + 1 if node_id in self.compared else len(self.compared)
        return self.compared[at] if at < len(self.compared) else None

    def _compare(
        self, node_id: str, steps: Mapping[str, Step | SideFailed], own: Own
    ) -> tuple[Evidence, Measurement | None]:
        """Judge how far both sides have come, and time their calls where both have one."""
        head, base, evidence = steps["head"], steps.get("base"), Evidence(node_id)
        if not isinstance(head, Arrived):
            return self._without_call(evidence, head, base), None
        evidence = replace(evidence, errors=head.errors, head_fingerprint=head.fingerprint)
        try:
            if not isinstance(base, Arrived):
                why = self._not_in_base(node_id, base)
                if isinstance(base, Finished) and base.in_use:
                    return replace(evidence, error=f"{why}{IF_IN_USE}"), None
                if self.settings.base_python is None and self.sides.head.sha256 == self.sides.base.sha256:
                    return replace(evidence, error=f"{why}, though base and head are the same source"), None
                return replace(evidence, new=True, remarks=(why,)), measure_alone(self.pair.parties["head"])
            if own.compare:
                evidence = self._compare_results(evidence, head, base)
            evidence = self._compare_facts(evidence, head, base)
            timing = self.sides.measuring.time(node_id, self._test(node_id, own), self.budget)
        except SideFailed as failure:
            return replace(evidence, error=str(failure)), None
        evidence = replace(evidence, measurements=timing.measurements, replication=timing.replication)
        return evidence, timing.measurements[0]

    def _compare_results(self, evidence: Evidence, head: Arrived, base: Arrived) -> Evidence:
        why_not = head.unsaved or base.unsaved
        if why_not is not None and head.kind != base.kind:
            return replace(evidence, differs=f"the result is of type {head.kind}, and {base.kind} in the base")
        found = {} if head.left == base.left else self.pair.differences()
        differing = {name: one.found for name, one in found.items() if one.found is not None}
        varies = self._varying(evidence.case_id, differing) if differing else {}
        if real := [text for name, text in differing.items() if name not in varies]:
            return replace(evidence, differs=real[0])
        reasons = (why_not, *varies.values(), *(one.unknown for one in found.values()))
        if (why := next(filter(None, reasons), None)) is not None:
            evidence = replace(evidence, remarks=(*evidence.remarks, f"results not compared: {why}"))
        return evidence

    def _varying(self, node_id: str, names: Collection[str]) -> dict[str, str]:
        """Return which differing parts vary by themselves; a run that has failed asks for less certainty."""
        file, _, _ = node_id.partition("::")
        before = [id_ for id_ in self.compared[: self.compared.index(node_id)] if id_.startswith(f"{file}::")]
        has_failed = any(result.evidence.differs is not None for result in self.results)
        level = 1.0 if has_failed else self.settings.policy.false_alarm
        return Again(self.pair, before, node_id, self.sides.afresh).varying(names, level)

    def _compare_facts(self, evidence: Evidence, head: Arrived, base: Arrived) -> Evidence:
        if head.unobserved is not None and base.unobserved is None:
            return replace(evidence, error=f"a watched call raised {head.unobserved} in the head, and not in the base")
        if (why := head.unobserved or base.unobserved) is not None:
            remarks = (*evidence.remarks, f"facts not compared, a watched call raised {why}")
            return replace(evidence, head_fingerprint=None, remarks=remarks)
        return replace(evidence, base_fingerprint=base.fingerprint or (head.fingerprint and NOTHING))

    def _without_call(
        self, evidence: Evidence, head: Finished | SideFailed, base: Step | SideFailed | None
    ) -> Evidence:
        """Judge a test whose call the head did not reach."""
        if isinstance(head, SideFailed):
            return replace(evidence, error=str(head))
        if (failed := error_of(head.reports)) is not None:
            return replace(evidence, error=f"failed in the head: {failed}{IF_IN_USE if head.in_use else ''}")
        skipped = skip_of(head.reports)
        if skipped is not None and (isinstance(base, Arrived) or self.sides.own.calls(evidence.case_id)):
            return replace(evidence, missing=f"is skipped in the head ({skipped}) and runs in the base")
        if skipped is not None:
            return replace(evidence, skipped=skipped)
        if (raised := head.raised) is not None:
            in_base = base.raised if isinstance(base, Finished) else None
            if in_base is None:
                why = (
                    f"what it gives to benchmark raised {raised}, and not in the base: a call that raises is not timed"
                )
                return replace(evidence, error=why)
            if raised.partition(":")[0] != in_base.partition(":")[0]:
                return replace(evidence, differs=f"the call raises {raised}, and {in_base} in the base")
            return replace(evidence, timed=False, remarks=(f"the call raises {raised}",))
        return replace(evidence, error="uses the benchmark fixture and never calls it: give it what is to be timed")

    def _not_in_base(self, node_id: str, base: Step | SideFailed | None) -> str:
        """Say why the base has no call to compare with."""
        if isinstance(base, SideFailed):
            return f"not compared: {base}"
        if base is not None:
            reports = finished(base).reports
            why = error_of(reports) or skip_of(reports) or "it does not call benchmark there"
            return f"not compared, the base cannot run it: {why}"
        errors = self.pair.collected["base"].errors
        file = node_id.partition("::")[0]
        text = errors.get(file) or next(iter(errors.values()), None)
        return "not in the base" if text is None else f"not compared, the base cannot collect it: {error_line(text)}"

    def _test(self, node_id: str, own: Own) -> PairedTest:
        accepted = self.exceptions.of(node_id)
        if own.threshold is not None:
            said = f"its own threshold is {100 * own.threshold:g}%"
            accepted = replace(accepted, threshold=own.threshold, note=said)
        return self.settings.policy.test(
            len(self.compared) + len(self.selection.elsewhere) + self.sharing,
            accepted=accepted,
            replications=None if self.settings.base_python else self.replications,
        )

    def _add(self, evidence: Evidence, own: Own) -> CaseResult:
        result = judge_case(evidence, self._test(evidence.case_id, own))
        self.results.append(result)
        self.replications.settle(result)
        if result.id in self.compared:  # what it did not take, later tests may
            self.budget.spend(sum(measurement.seconds for measurement in result.measurements))
        return result

    def finish(self) -> Run:
        """Sum up the run: its results, and tests that are missing or have none.

        Raises:
            CannotDo: tests were not collected, or nothing of the base's code was imported.

        """
        if not self.has_started:  # pytest has said why
            raise CannotDo("no test was collected, so there is no verdict")
        sides, (index, count) = self.sides, self.settings.shard
        done = {result.id for result in self.results}
        if done.issuperset(self.selection.tests):  # else a side may wait in the middle of a test
            if any(result.verdict.compared for result in self.results):
                sides.refuse_code_that_nobody_imports()
            self.lent = sides.lent()
        own, notes = sides.own.found
        missing = sorted(own - self.selection.known)
        gone = missing if index == 1 else []  # once, not in every shard
        left_out = self.pair.collected["head"].tests.keys() & set(gone)
        why = "runs in the base, and is deselected in the head or uses no benchmark fixture there"
        rows = left_over(self.selection.tests, done, [id_ for id_ in gone if id_ not in left_out])
        rows += [Evidence(id_, missing=why) for id_ in sorted(left_out)]
        judged = (judge_case(row, self.settings.policy.test(1)) for row in rows)
        return Run(
            base={"origin": sides.base.origin, "source_sha256": sides.base.sha256, **sides.versions},
            head={"origin": sides.head.origin, "source_sha256": sides.head.sha256},
            environment=self.environment,
            policy=self.settings.policy,
            cases=(*self.results, *judged),
            load=self.load.read(),
            notes=(*self.selection.notes, *sides.notes, *notes, *self.lent.notes),
            shard=Shard.of(index, count, "", {*self.selection.tests, *self.selection.elsewhere, *missing}),
            options=self.repeatable,
        )

    @property
    def repeatable(self) -> tuple[str, ...]:
        """The options under which one test is compared again as here; defaults are left out."""
        settings, policy = self.settings, self.settings.policy
        single = {
            "--gate-threads": (settings.threads, DEFAULT_THREADS),
            "--gate-threshold": (f"{100 * policy.threshold:g}%", f"{100 * Policy.threshold:g}%"),
            "--gate-base-python": (settings.base_python, None),
            "--gate-head": (settings.head, None),
            "--gate-base": (self.sides.base.named, None),
        }
        return tuple(f"{name}={value}" for name, (value, default) in single.items() if value != default)
