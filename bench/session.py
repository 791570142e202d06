"""One pytest session of the gate: the cases chosen, the results so far, and the run they make."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from . import pytest_benchmark_adapter
from .cases import Case, matrix, supported_ids
from .comparison import accepted, lasting_base, with_base
from .gate import CaseFailed, CaseSkipped, Gate
from .judging.judge import judge_case
from .judging.run import Run
from .judging.statistics import PairedTest
from .judging.verdict import CaseResult, Verdict, severity
from .judging.waivers import Exceptions
from .options import Settings
from .plain.errors import CannotDo
from .plain.evidence import Evidence, Shard
from .sides import baseline, source
from .sides.base import Base
from .sides.places import Place, places
from .sides.side import head_side
from .sides.source import Source
from .sides.what import importable
from .timing import environment, shards
from .timing.between import observations_needed
from .timing.budget import SharedBudget
from .timing.ceiling import ceilings
from .timing.clock import Clock
from .timing.cuda import graphed
from .timing.machine_load import LoadMeter
from .timing.processes import process_pairs
from .timing.witness import smallest

DEVICES = ("cpu", "cuda")


@dataclass
class GateSession:
    """State of one session; it is filled in the order in which pytest calls the hooks."""

    settings: Settings
    head_source: Source
    gate: Gate
    cases: dict[Case, str | None]  # the tier's cases, each with the reason if its subject cannot run it
    allocator: str = ""
    exceptions: Exceptions = field(default_factory=Exceptions)
    selected: list[Case] = field(default_factory=list)  # what pytest selected, all shards together
    chosen: list[Case] = field(default_factory=list)  # this shard's
    budget: SharedBudget | None = None
    load: LoadMeter | None = None
    results: list[CaseResult] = field(default_factory=list)
    untimed: list[dict[str, object]] = field(default_factory=list)  # for a baseline: of cases that are not timed
    resources: ExitStack = field(default_factory=ExitStack)
    repeatable: tuple[str, ...] = ()  # the options under which a case is compared again

    @classmethod
    def start(cls, settings: Settings) -> "GateSession":
        with ExitStack() as resources:
            if settings.config is not None:
                resources.enter_context(importable(settings.config.folder))
            head = head_side(settings.what, settings.devices)
            cases = matrix(head.kernels, head.modules, settings.tier, settings.devices, settings.rows)
            head_source = source.imported(settings.what.names)
            gate = Gate(head, None, graphed=graphed if settings.graphs else None)
            return cls(settings, head_source, gate, cases, resources=resources.pop_all())

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
        devices = sorted({case.device for case in self.chosen})
        by_clock = tuple(note for device in devices for note in Clock.of(device).notes)
        if self.settings.graphs:
            by_clock = (
                *by_clock,
                "calls were timed as CUDA graphs replay them: leave out --gate-graphs to time them as made",
            )
        return by_clock if self.gate.elsewhere is None else (*by_clock, *self.gate.elsewhere.notes)

    @property
    def missing_ids(self) -> list[str]:
        """The base's cases that the head lost."""
        base = self.base.ids(self.settings.tier, self.settings.devices, self.settings.rows)
        return sorted(base - supported_ids(self._all_cases))

    @property
    def absent_ids(self) -> tuple[str, ...]:
        """The cases of the stored baseline whose device this machine lacks."""
        absent = set(DEVICES) - set(environment.present_devices())
        return tuple(id_ for id_ in self.base.stored_ids if baseline.device_of(id_) in absent)

    @property
    def _all_cases(self) -> dict[Case, str | None]:
        head = self.gate.head
        return matrix(head.kernels, head.modules, None, DEVICES, self.settings.rows)

    @property
    def header(self) -> str:
        """What this session does, in one line."""
        parts = [f"tier {self.settings.tier}", f"on {', '.join(self.settings.devices)}"]
        if self.settings.shard[1] > 1:
            parts.append("shard {}/{}".format(*self.settings.shard))
        parts.append(f"{self.settings.threads} thread(s)")
        if self.gate.base is not None:
            parts.append(f"against {self.base.source.origin}, threshold {100 * self.settings.policy.threshold:g}%")
        return f"attention gate: {'; '.join(parts)}"

    def test(self, case_id: str) -> PairedTest:
        """Return the stopping rule of a case; all timed cases of all shards share the level."""
        waiver = self.exceptions.waiver(case_id)
        return self.settings.policy.test(
            self.timed(self.selected),
            threshold=self.exceptions.threshold(case_id),
            accepted_ratio=1.0 if waiver is None else waiver.ratio,
        )

    def prepare_comparison(self, config: pytest.Config) -> None:
        """Load the base that was asked for, and read what is accepted of the head.

        Raises:
            CannotDo: the base cannot be had, or a waiver does not hold.

        """
        here = environment.describe(self.allocator)
        self.gate = self.resources.enter_context(with_base(self.gate, self.settings, self.head_source, here, config))
        self.repeatable = replace(self.settings, base=lasting_base(self.settings)).repeatable
        self.exceptions = accepted(self.settings, {case.id for case in self._all_cases})

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
        return shards.deal(shards.costs(selected, shards.seconds_stored()), count)[index - 1]

    def choose(self, cases: Sequence[Case]) -> None:
        """Take note of the cases that pytest selected, and hold the machine still for them.

        Raises:
            CannotDo: a comparison was asked for and no case, of all shards, is left that can run.

        """
        self.chosen = list(cases)
        if self.settings.comparing and not self.runnable(self.selected):
            raise CannotDo("no case is left to compare: select some with bench/, -k, --tier, --device and --shard")
        if self.selected:  # even if nothing fell to this shard: all shards report the same environment
            torch.set_num_threads(self.settings.threads)
            self.allocator = environment.steady_allocator()
        if self.runnable(self.chosen):
            self._start_processes()
            if self.gate.witness is not None and self.base.side is not None:
                self.gate.witness.cases = smallest([case for case in self.chosen if self.cases[case] is None])
                self.gate.witness.refuse_shared_imports()
            self.budget = SharedBudget(self.settings.policy.budget_s, self.timed(self.chosen))
            self.load = LoadMeter()

    def _start_processes(self) -> None:
        """Start the pairs of processes that the first case needs, where the base has an interpreter of its own.

        It waits for the first pair, to see that both sides load; the others load while the first case is checked.
        """
        if self.settings.base_python is None:
            return
        pairs = self.resources.enter_context(
            process_pairs(
                self.settings.base_python,
                self.base.source,
                self.head_source,
                self.settings.what,
                threads=self.settings.threads,
            )
        )
        pairs.start(1)
        supported = pairs.base_supports(self.settings.tier, self.settings.devices, self.settings.rows)
        pairs.begin(observations_needed(self.test(self.chosen[0].id)))
        self.gate = replace(self.gate, elsewhere=pairs, base=replace(self.base, elsewhere=supported))

    def compare(self, case: Case, benchmark: BenchmarkFixture) -> CaseResult:
        """Judge one case against the base; pytest-benchmark gets the head's timings, also of a case that is new."""
        test, waiver, unsupported = self.test(case.id), self.exceptions.waiver(case.id), self.cases[case]
        if unsupported is not None:
            result = judge_case(Evidence(case.id, skipped=unsupported), test)
        else:
            assert self.budget is not None  # there is one where a case can run
            waived = None if waiver is None else str(waiver)
            # A pair of processes takes longer than a case's share of a common budget.
            shared = self.gate.elsewhere is None
            allowance_s = self.budget.allowance_s() if shared else self.settings.policy.budget_s
            result = self.gate.compare(case, test, allowance_s, waived)
            if case.timed:
                self.budget.spend(result.seconds)
        self._add(result)
        self._keep(case, result.evidence, benchmark)
        if result.verdict is Verdict.NEW and case.timed:
            self.time(case, benchmark)
        elif result.measurements:
            measurement = result.measurements[-1]
            calls = measurement.calls_per_burst
            seconds = [pair.head_ns_per_call * calls * 1e-9 for pair in measurement.pairs]
            pytest_benchmark_adapter.give_timings(benchmark, seconds, calls)
        else:
            pytest_benchmark_adapter.leave_untimed(benchmark)
        return result

    def time(self, case: Case, benchmark: BenchmarkFixture) -> None:
        """Check the head's output on one case, then time it through pytest-benchmark if it is timed.

        Raises:
            CaseFailed: the output is off, or the head raised.
            CaseSkipped: the case cannot be run here.

        """
        unsupported = self.cases[case]
        if unsupported is not None:
            raise CaseSkipped(unsupported)
        checked = self.gate.check(case)
        complaints = [c for error in checked.evidence.errors for c in error.complaints]
        if complaints:
            raise CaseFailed("\n".join(complaints))
        self._keep(case, checked.evidence, benchmark)
        if not case.timed:
            pytest_benchmark_adapter.leave_untimed(benchmark)
            return
        synchronize = Clock.of(case.device).synchronize

        def call() -> None:
            checked.head()
            synchronize()

        with torch.set_grad_enabled(case.backward):
            benchmark(checked.head if case.device == "cpu" else call)

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
        return places({**self.gate.head.kernels, **self.gate.head.modules}, root)

    def _hear_the_witness(self) -> None:
        """Turn the result of each case that a side alone contradicts into an error."""
        if self.gate.witness is None:
            return
        for case_id, said in self.gate.witness.contradictions():
            self.results = [
                judge_case(replace(r.evidence, error=said), self.test(case_id)) if r.id == case_id else r
                for r in self.results
            ]

    def _uncompared_kernels(self) -> list[str]:
        """The kernels that were named and selected, and of which this part of the run compared no case."""
        if not self.settings.what.kernels:
            return []
        compared = {r.id.partition("-")[0] for r in self.results if r.verdict.compared}
        return sorted({case.subject for case in self.chosen} - compared)

    def finish(self) -> Run:
        """Sum up the run: its results, and cases that are missing or have none."""
        done = {result.id for result in self.results}
        rows = [
            Evidence(case.id, error="was selected and has no result: the run stopped before it")
            for case in self.chosen
            if case.id not in done
        ]
        self._hear_the_witness()
        missing = self.missing_ids
        if self.settings.shard[0] == 1:  # once, not in every shard
            rows += [Evidence(id_, missing="is in the base and gone from the head") for id_ in missing]
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
            ceilings=ceilings(result.work for result in self.results if result.work and result.measurements),
            absent=self.absent_ids,
            options=self.repeatable,
        )
