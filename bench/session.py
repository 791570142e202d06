"""One pytest session of the gate: the cases chosen, the results so far, and the run they make.

Over 300 lines: the state of one session, which its parts share.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from . import pytest_benchmark_adapter
from .comparison import Compared, compared, lasting_base
from .judging.judge import judge_case, left_over
from .judging.replication import Replications
from .judging.run import Run
from .judging.shards import deal
from .judging.statistics import PairedTest
from .judging.verdict import CaseResult, Verdict, severity
from .judging.waivers import Exceptions
from .options import Settings
from .plain.errors import CannotDo
from .plain.evidence import Evidence, Place, Shard
from .plain.execution import Ceiling
from .plain.interrupt import ending_cleanly
from .sessions.opening import Selection
from .sessions.session import Session
from .sessions.settings import SessionSettings
from .sources import baseline, source
from .sources.source import Source
from .sources.target import importable
from .suite import shards
from .suite.base import Base
from .suite.cases import DEVICES, Case
from .suite.config import accepted
from .suite.forked import IMAGE
from .suite.gate import Gate
from .suite.matrix import without_coverings
from .suite.side import load
from .suite.sides import Sides, in_process
from .timing import environment
from .timing.budget import SharedBudget
from .timing.clock import Clock
from .timing.machine_load import LoadMeter
from .twins.fork import start_server
from .twins.party import SideFailed, Unsupported


@dataclass
class GateSession:
    """State of one session; it is filled in the order in which pytest calls the hooks."""

    settings: Settings
    head_source: Source
    started: Gate | None = None  # None until the sides are there
    cases: dict[Case, str | None] = field(default_factory=dict)  # the tier's, each with the reason if it cannot run
    missing_ids: list[str] = field(
        default_factory=list
    )  # cases of the base, or of the stored baseline, that head lacks
    allocator: str = ""
    exceptions: Exceptions = field(default_factory=Exceptions)
    selected: list[Case] = field(default_factory=list)  # what pytest selected, all shards together
    chosen: list[Case] = field(default_factory=list)  # this shard's
    others: Session | None = None  # of tests that are none of the matrix
    budget: SharedBudget | None = None
    load: LoadMeter | None = None
    replications: Replications = field(init=False)
    results: list[CaseResult] = field(default_factory=list)
    untimed: list[dict[str, object]] = field(default_factory=list)  # for a baseline: of cases that are not timed
    resources: ExitStack = field(default_factory=ExitStack)
    repeatable: tuple[str, ...] = ()  # the options under which a case is compared again

    def __post_init__(self) -> None:
        self.replications = Replications(self.settings.policy.false_alarm)

    @classmethod
    def start(cls, settings: Settings) -> "GateSession":
        with ExitStack() as resources:
            if settings.config is not None:
                resources.enter_context(importable(settings.config.folder))
            if settings.comparing:
                resources.enter_context(ending_cleanly())
                # It imports torch while pytest goes on; sides are found when the session starts.
                start_server(IMAGE, threads=settings.threads)
                session = cls(settings, source.imported(settings.target.names))
            else:
                gate = Gate(in_process(load(settings.target, settings.devices)))
                session = cls(settings, source.imported(settings.target.names))
                session.take_sides(gate)
            session.resources = resources.pop_all()
            return session

    def take_sides(self, gate: Gate) -> None:
        """Take note of the sides, and of the cases that they have.

        Raises:
            CannotDo: a side's kernels do not say what they support.

        """
        self.started = gate
        sides, tier, devices, rows = gate.sides, self.settings.tier, self.settings.devices, self.settings.rows
        try:
            self.cases = sides.head.ask("cases", tier, devices, rows)
            if gate.base is not None:
                base_ids = set(gate.base.stored_ids)
                if sides.base is not None:
                    rows = rows if self.settings.base_python is None else without_coverings(rows)
                    own, subjects = sides.base.ask("ids", tier, devices, rows)
                    # A baseline has times of a kernel from outside and not its source, so its absence is no loss.
                    base_ids = {id_ for id_ in base_ids if id_.partition("-")[0] in subjects} | own
                # A timed case must be there, in any tier. Cases that are only checked depend on what a kernel supports,
                # so one may be gone, unless the head does not support it any more.
                timed = base_ids & gate.base.timed_ids
                gone = timed - self.known_ids() if timed else timed
                self.missing_ids = sorted(gone | sides.head.ask("lacks", base_ids))
        except SideFailed as failure:
            raise CannotDo(f"{failure}: choose one whose kernels say what they support") from failure

    def known_ids(self) -> set[str]:
        """Return the ids of the head's cases of all tiers, which takes a while to find."""
        return {case.id for case in self.sides.head.ask("cases", None, DEVICES, self.settings.rows)}

    @property
    def gate(self) -> Gate:
        assert self.started is not None  # by pytest's hooks, before any test
        return self.started

    @property
    def sides(self) -> Sides:
        return self.gate.sides

    def runnable(self, cases: Sequence[Case]) -> int:
        """How many of the cases their subjects can run."""
        return sum(self.cases[case] is None for case in cases)

    def timed(self, cases: Sequence[Case]) -> int:
        """How many of them are timed, and share the level and the budget."""
        return self.runnable([case for case in cases if case.timed])

    @property
    def base(self) -> Base:
        assert self.gate.base is not None  # this is a comparison
        return self.gate.base

    @property
    def base_origin(self) -> str:
        """Where the base's code is from, and the interpreter that it runs under if that is another."""
        if self.settings.base_python is None:
            return self.base.source.origin
        return f"{self.base.source.origin} under {self.settings.base_python} (torch {self.base.environment['torch']})"

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about how the chosen cases were measured."""
        graphs = "calls were timed as CUDA graphs replay them: leave out --gate-graphs to time them as made"
        return (*((graphs,) if self.settings.graphs else ()), *self.sides.notes)

    @property
    def absent_ids(self) -> tuple[str, ...]:
        """The cases of the stored baseline whose device this machine lacks."""
        absent = set(DEVICES) - set(environment.present_devices())
        return tuple(id_ for id_ in self.base.stored_ids if baseline.device_of(id_) in absent)

    @property
    def header(self) -> str:
        """What this session does, in one line."""
        parts = [f"tier {self.settings.tier}", f"on {', '.join(self.settings.devices)}"]
        if self.settings.shard[1] > 1:
            parts.append("shard {}/{}".format(*self.settings.shard))
        parts.append(f"{self.settings.threads} thread(s)")
        if self.settings.comparing:
            parts.append(f"against {self.base.source.origin}, threshold {100 * self.settings.policy.threshold:g}%")
        return f"attention gate: {'; '.join(parts)}"

    def test(self, case_id: str) -> PairedTest:
        """Return the stopping rule of a case; all times that any shard judges share the level."""
        return self.settings.policy.test(
            self._times + (0 if self.others is None else len(self.others.compared)),
            accepted=self.exceptions.of(case_id),
            replications=self.replications if self.settings.base_python is None else None,
            host=any(case.id == case_id for case in self._on_gpu),
        )

    @property
    def _times(self) -> int:
        """How many times of cases are judged, by all shards together."""
        return self.timed(self.selected) + self.timed(self._on_gpu)

    @property
    def _on_gpu(self) -> list[Case]:
        """The selected cases that have two times to judge: the device's, and the host's to make the call."""
        return [case for case in self.selected if case.device == "cuda"]

    def prepare_comparison(self, config: pytest.Config) -> None:
        """Load the base that was asked for, and read what is accepted of the head.

        Raises:
            CannotDo: the base cannot be had, or a waiver does not hold.

        """
        here = environment.describe(self.allocator)
        both: Compared = self.resources.enter_context(compared(self.settings, here, config))
        self.take_sides(Gate(both.sides, both.base))
        self.repeatable = replace(self.settings, base=lasting_base(self.settings)).repeatable
        self.exceptions = accepted(self.settings.config, self.settings.target, self.known_ids)

    def take_shard(self, cases: Sequence[Case]) -> list[Case]:
        """Take this shard's part of the cases that pytest selected.

        Raises:
            CannotDo: the baseline that ships is damaged.

        """
        self.selected = list(cases)
        index, count = self.settings.shard
        if count == 1:
            return self.selected
        selected = {case: self.cases[case] for case in cases}
        mine = set(deal(shards.costs(selected, shards.seconds_stored()), count)[index - 1])
        return [case for case in cases if case.id in mine]

    def choose(self, cases: Sequence[Case]) -> None:
        """Take note of the cases that pytest selected, and hold the machine still for them.

        Raises:
            CannotDo: a comparison was asked for, and no shard has a case that can run.

        """
        self.chosen = list(cases)
        if self.settings.comparing and not self.runnable(self.selected) and self.others is None:
            raise CannotDo("no case is left to compare: select some with bench/, -k, --tier, --device and --shard")
        if self.selected:  # even if nothing fell to this shard: all shards report the same environment
            self.allocator = environment.hold_still(self.settings.threads)
        if self.runnable(self.chosen):
            self.budget = SharedBudget(self.settings.policy.budget_s, self.timed(self.chosen))
            self.load = LoadMeter()

    def compare_others(self, selection: Selection) -> Session:
        """Compare tests that use the fixture by themselves, as those of any repository are.

        Raises:
            CannotDo: the base has no tests, cannot be had, or a session does not start.

        """
        settings = self.settings
        if settings.base is None or settings.base_python is not None or settings.shard[1] > 1:
            raise CannotDo(
                f"{selection.tests[0]} is a benchmark of its own, which is compared by --gate-base=REV-or-DIR alone, "
                "whole and under this interpreter: leave it out by -k, or run it by itself"
            )
        here = environment.describe(self.allocator)
        others = Session(SessionSettings(settings.base, settings.policy, settings.threads), here)
        self.resources.callback(others.resources.close)
        others.start(selection)
        others.sharing, others.replications = self._times, self.replications
        self.others = others
        return others

    def compare(self, case: Case, benchmark: BenchmarkFixture) -> CaseResult:
        """Judge one case against the base; pytest-benchmark gets the head's timings, also of a case that is new."""
        test, unsupported = self.test(case.id), self.cases[case]
        if unsupported is not None:
            result = judge_case(Evidence(case.id, skipped=unsupported), test)
        else:
            assert self.budget is not None  # there is one where a case can run
            # A pair of processes takes longer than a case's share of a common budget.
            shared = self.settings.base_python is None
            allowance_s = self.budget.allowance_s() if shared else self.settings.policy.budget_s
            result = self.gate.compare(case, test, allowance_s)
            if case.timed:
                self.budget.spend(result.seconds)
        measurement = result.measurements[-1] if result.measurements else None
        if result.verdict is Verdict.NEW and case.timed:
            try:
                measurement = self.gate.time_head()
            except SideFailed as failure:
                result = judge_case(replace(result.evidence, error=str(failure)), test)
        self._add(result)
        self.replications.settle(result)
        self._keep(case, result.evidence, benchmark)
        if measurement is not None:
            calls = measurement.calls_per_burst
            seconds = [pair.head_ns_per_call * calls * 1e-9 for pair in measurement.pairs]
            pytest_benchmark_adapter.give_timings(benchmark, seconds, calls)
        else:
            pytest_benchmark_adapter.leave_untimed(benchmark)
        return result

    def time(self, case: Case, benchmark: BenchmarkFixture) -> None:
        """Check the head's output on one case, then time it through pytest-benchmark if it is timed.

        Raises:
            SideFailed: the output is off, or the head raised.
            Unsupported: the case cannot be run here.

        """
        unsupported = self.cases[case]
        if unsupported is not None:
            raise Unsupported(unsupported)
        evidence = self.gate.check(case)
        complaints = [c for error in evidence.errors for c in error.complaints]
        if complaints:
            raise SideFailed("\n".join(complaints))
        self._keep(case, evidence, benchmark)
        if not case.timed:
            pytest_benchmark_adapter.leave_untimed(benchmark)
            return
        call, synchronize = self.sides.head.ask("own_call"), Clock.of(case.device).synchronize

        def synchronized() -> None:
            call()
            synchronize()

        with torch.set_grad_enabled(case.backward):
            benchmark(call if case.device == "cpu" else synchronized)

    def _add(self, result: CaseResult) -> None:
        """Add a result; where a plugin repeats a case, the worst result stands."""
        for i, earlier in enumerate(self.results):
            if earlier.id == result.id:
                self.results[i] = min(earlier, result, key=severity)
                return
        self.results.append(result)

    def _keep(self, case: Case, evidence: Evidence, benchmark: BenchmarkFixture) -> None:
        """Store what was found with the case's timings, or apart if it has none: pytest-benchmark drops such cases."""
        found = baseline.extra_info(case.id, evidence.errors, evidence.head_fingerprint)
        benchmark.extra_info.update(found)
        if not case.timed and evidence.skipped is None:
            self.untimed.append(found)

    def places(self, root: Path) -> dict[str, Place]:
        """Where the head's kernels and modules are written in the repository, by name."""
        self.sides.ready()  # the last case may have ended a process
        found: dict[str, Place] = self.sides.head.ask("places", root)
        return found

    def _uncompared_kernels(self) -> list[str]:
        """The kernels that were named and selected, without a case that this part of the run compared."""
        if not self.settings.target.kernels:
            return []
        compared = {result.id for result in self.results if result.verdict.compared}
        subjects = {case.subject for case in self.chosen if case.id in compared}
        return sorted({case.subject for case in self.chosen} - subjects)

    def finish(self) -> Run:
        """Sum up the run: its results, and cases that are missing or have none."""
        done = {result.id for result in self.results}
        missing = self.missing_ids
        gone = missing if self.settings.shard[0] == 1 else []  # once, not in every shard
        rows = left_over([case.id for case in self.chosen], done, gone)
        rows += [
            Evidence(name, error=f"{name} was asked for, and no case of it was compared")
            for name in self._uncompared_kernels()
        ]
        ids = {case.id for case in self.selected} | set(missing)
        return Run(
            base={"origin": self.base_origin, "source_sha256": self.base.source.sha256, **self.base.environment},
            head={"origin": "working tree", "source_sha256": self.head_source.sha256},
            environment=environment.describe(self.allocator),
            policy=self.settings.policy,
            cases=(*self.results, *(judge_case(row, self.test(row.case_id)) for row in rows)),
            load=None if self.load is None else self.load.read(),
            notes=self.notes,
            shard=Shard.of(*self.settings.shard, self.settings.tier, ids),
            ceilings=self._ceilings(),
            absent=self.absent_ids,
            options=self.repeatable,
        )

    def _ceilings(self) -> tuple[Ceiling, ...]:
        """Measure what the machine can do at most, for the work that was timed."""
        works = [result.work for result in self.results if result.work and result.measurements]
        self.sides.ready()  # the last case may have ended a process
        found: tuple[Ceiling, ...] = self.sides.examiner.ask("ceilings", works)
        return found
