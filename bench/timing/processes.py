"""Runs base and head in pairs of processes, so that the base can have another interpreter."""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from ..cases import ROWS, Row
from ..judging.statistics import PairedTest
from ..plain.errors import CannotDo
from ..plain.evidence import Measurement
from ..plain.execution import Fingerprint
from ..sides.source import Source
from ..sides.what import What
from ..sides.workload import Workload
from .between import is_settled, joined, observations_needed
from .clock import Clock
from .measure import measure
from .remote import Remote, SideFailed

BURST_PAIRS = 9  # pairs of bursts in each pair of processes; more would not narrow what differs between processes
MOST_PAIRS = 40  # of processes: all live until the run ends, so memory bounds them
SHARE = 0.05  # of a measurement's budget, for each pair of processes


@dataclass
class ProcessPairs:
    """Pairs of processes, the base under one interpreter and the head under this one, that share the same cores.

    The pairs that the first case needs are started first, as many at a time as there are cores for; the others one by
    one, as measuring needs them.
    """

    python: str
    base: Source
    head: Source
    what: What
    threads: int
    directory: Path
    resources: ExitStack
    pairs: list[tuple[Remote, Remote]] = field(default_factory=list)
    loading: list[Remote] = field(default_factory=list)  # have not answered yet
    numbers: Iterator[int] = field(default_factory=count)  # of pairs ever started

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the verdicts must know about how they were measured, and what could not be."""
        counted = f"base and head ran in {len(self.pairs)} pairs of processes, each of which is one pair in the table"
        if len(self.pairs) < MOST_PAIRS:
            return (f"{counted}: processes differ by some percent, so this sees less than a run in one",)
        return (f"{counted}, and no case is given more: give a higher --gate-threshold for what is undecided",)

    def begin(self, wanted: int) -> None:
        """Start the pairs that are lacking, as many as there are cores for, without waiting.

        Dead ones are replaced: a case that crashed a process must not fail the cases after it.

        Raises:
            CannotDo: a side ended while it was loaded in its process.

        """
        for pair in [pair for pair in self.pairs if not all(remote.is_alive for remote in pair)]:
            self._wait(pair)
            self.pairs.remove(pair)
            for remote in pair:
                remote.close()
        lacking, at_once = min(wanted, MOST_PAIRS) - len(self.pairs), max(1, (os.cpu_count() or 1) // 2)
        self.pairs += [self._pair(next(self.numbers)) for _ in range(min(lacking, at_once))]

    def start(self, wanted: int) -> None:
        """Make sure that so many pairs live and have loaded, or as many as may live.

        Raises:
            CannotDo: a side does not load in its process.

        """
        while True:
            self.begin(wanted)
            for pair in self.pairs[:wanted]:
                self._wait(pair)
            if len(self.pairs) >= min(wanted, MOST_PAIRS):
                return

    def _wait(self, pair: tuple[Remote, Remote]) -> None:
        for remote in pair:
            if remote in self.loading:
                self.loading.remove(remote)
                try:
                    remote.receive()
                except SideFailed as failure:
                    raise CannotDo(f"{failure}: choose a base and an interpreter for it") from failure

    def _pair(self, number: int) -> tuple[Remote, Remote]:
        """Start both sides on the same cores, each pair on the next ones; a fair coin decides which starts first."""
        all_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        wanted = range(number * self.threads, (number + 1) * self.threads)
        cores = sorted({all_cores[i % len(all_cores)] for i in wanted}) if all_cores else []
        sides = [("base", self.python, self.base), ("head", sys.executable, self.head)]
        started: dict[str, Remote] = {}
        for label, python, source in random.sample(sides, 2):
            started[label] = Remote(python, label, self.directory)
            self.resources.callback(started[label].close)
            started[label].send("start", label, source, self.what, self.threads, cores)
            self.loading.append(started[label])
        return started["base"], started["head"]

    def base_supports(self, tier: str, devices: tuple[str, ...], rows: tuple[Row, ...] = ROWS) -> frozenset[str]:
        """Return the ids of the cases that the base can run."""
        base, _ = self.pairs[0]
        return frozenset(base.ask("supported", tier, devices, rows))

    def check_base(self, workload: Workload) -> tuple[Mapping[str, Tensor], Fingerprint]:
        """Run the base once in its process; returns its output and gradients, and its fingerprint.

        Raises:
            SideFailed: it raised, or wrote to its inputs.

        """
        self.start(1)
        base, _ = self.pairs[0]
        base.ask("take", self._shipped(workload))
        results, fingerprint = base.ask("check")
        _refuse_writing(base)
        return torch.load(BytesIO(results), map_location=workload.case.device, weights_only=True), fingerprint

    def measure(self, workload: Workload, *, test: PairedTest, budget_s: float, order: random.Random) -> Measurement:
        """Take an observation from one pair of processes after the other until the test is certain.

        Raises:
            SideFailed: a side raised, or wrote to its inputs.

        """
        self.start(max(len(self.pairs), observations_needed(test)))  # a process that loads would disturb the others
        start_s = time.monotonic()
        path, clock = self._shipped(workload), _RemoteClock(Clock.of(workload.case.device).resolution_ns)
        taken: list[Measurement] = []
        while len(taken) < MOST_PAIRS:
            self.start(len(taken) + 1)
            sides = self.pairs[len(taken)]
            for remote in sides:
                remote.ask("take", path)
            taken.append(measure(*sides, clock=clock, rule=_Enough(), budget_s=SHARE * budget_s, order=order))
            for remote in sides:
                _refuse_writing(remote)
            seconds = time.monotonic() - start_s
            if is_settled(taken, test) or seconds > budget_s:
                break
        return joined(taken, time.monotonic() - start_s)

    def _shipped(self, workload: Workload) -> Path:
        path = self.directory / "workload.pt"
        torch.save(workload, path)
        return path


def _refuse_writing(remote: Remote) -> None:
    if remote.ask("wrote"):
        raise SideFailed(f"{remote.label} wrote to its inputs")


@dataclass(frozen=True)
class _Enough:
    """The stopping rule within a pair of processes: after so many pairs of bursts."""

    def is_certain(self, ordered: Sequence[float]) -> bool:
        return len(ordered) >= BURST_PAIRS


@dataclass(frozen=True)
class _RemoteClock:
    """A stopwatch that asks each side to time its own bursts."""

    resolution_ns: float
    notes: tuple[str, ...] = ()
    host_ns_per_call: None = None

    def now_ns(self) -> int:
        return time.perf_counter_ns()

    def synchronize(self) -> None:
        """Nothing is queued here: a side waits for its own work."""

    def burst(self, call: Callable[[], object], calls: int) -> float:
        return float(call.ask("burst", calls))  # type: ignore[attr-defined]  # every call of this clock is a side


@contextmanager
def process_pairs(python: str, base: Source, head: Source, what: What, *, threads: int) -> Iterator[ProcessPairs]:
    """Hold pairs of processes for as long as the context lasts; none is started yet."""
    with tempfile.TemporaryDirectory(prefix="attention-gate-") as directory, ExitStack() as resources:
        yield ProcessPairs(python, base, head, what, threads, Path(directory), resources)
