"""Pairs of processes that are not from one image, so that the base can have another interpreter."""

import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from ..judging.statistics import PairedTest
from ..plain.errors import CannotDo
from ..plain.evidence import Measurement
from .between import is_settled, joined, observations_needed
from .bursts import measure_bursts
from .forked import fork_examiner
from .interpreter import spawn
from .party import Remote, SideFailed
from .sides import Sides
from .worker import Start

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
    starts: dict[str, Start]  # by label
    scratch: Path
    examiner: Remote
    pairs: list[dict[str, Remote]] = field(default_factory=list)  # by label
    loading: list[Remote] = field(default_factory=list)  # have not answered yet
    numbers: Iterator[int] = field(default_factory=count)  # of pairs ever started

    @property
    def head(self) -> Remote:
        return self.pairs[0]["head"]

    @property
    def base(self) -> Remote:
        return self.pairs[0]["base"]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the verdicts must know about how they were measured, and what could not be."""
        counted = f"base and head ran in {len(self.pairs)} pairs of processes, each of which is one pair in the table"
        if len(self.pairs) < MOST_PAIRS:
            return (f"{counted}: processes differ by some percent, so this sees less than a run in one",)
        return (f"{counted}, and no case is given more: give a higher --gate-threshold for what is undecided",)

    def ready(self) -> None:
        if not self.examiner.is_alive:
            self.examiner = fork_examiner(self.starts["head"].threads)
            self.examiner.receive()
        self.start(1)

    def begin(self, wanted: int) -> None:
        """Start the pairs that are lacking, as many as there are cores for, without waiting.

        Dead ones are replaced: a case that crashed a process must not fail the cases after it.

        Raises:
            CannotDo: a side ended while it was loaded in its process.

        """
        for pair in [pair for pair in self.pairs if not all(remote.is_alive for remote in pair.values())]:
            self._wait(pair)
            self.pairs.remove(pair)
            for remote in pair.values():
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

    def _wait(self, pair: dict[str, Remote]) -> None:
        for remote in pair.values():
            if remote in self.loading:
                self.loading.remove(remote)
                try:
                    remote.receive()
                except SideFailed as failure:
                    raise CannotDo(f"{failure}: choose a base and an interpreter for it") from failure

    def _pair(self, number: int) -> dict[str, Remote]:
        """Start both sides on the same cores, each pair on the next ones; a fair coin decides which starts first."""
        every = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        threads = self.starts["head"].threads
        wanted = range(number * threads, (number + 1) * threads)
        cores = sorted({every[i % len(every)] for i in wanted}) if every else []
        started: dict[str, Remote] = {}
        for label, python in random.sample([("base", self.python), ("head", sys.executable)], 2):
            started[label] = spawn(python, label, self.scratch)
            started[label].send("load", self.starts[label], cores)
            self.loading.append(started[label])
        return started

    def measure(self, test: PairedTest, budget_s: float) -> Measurement:
        """Take an observation from one pair of processes after the other until the test is certain.

        Raises:
            SideFailed: a side raised, or wrote to its inputs.

        """
        self.start(max(len(self.pairs), observations_needed(test)))  # a process that loads would disturb the others
        start_s = time.monotonic()
        taken: list[Measurement] = []
        while len(taken) < MOST_PAIRS:
            self.start(len(taken) + 1)
            pair = self.pairs[len(taken)]
            for remote in pair.values():
                remote.ask("take", self.scratch / "workload.pt")
            taken.append(measure_bursts(pair["base"], pair["head"], _Enough(), SHARE * budget_s))
            seconds = time.monotonic() - start_s
            if is_settled(taken, test) or seconds > budget_s:
                break
        return joined(taken, time.monotonic() - start_s)

    def again(self) -> AbstractContextManager[Sides]:
        """Return the same: each of its processes is one observation already."""
        return nullcontext(self)

    def close(self) -> None:
        self.examiner.close()
        for pair in self.pairs:
            for remote in pair.values():
                remote.close()


@dataclass(frozen=True)
class _Enough:
    """The stopping rule within a pair of processes: after so many pairs of bursts."""

    def is_certain(self, ordered: Sequence[float]) -> bool:
        return len(ordered) >= BURST_PAIRS


@contextmanager
def process_pairs(python: str, starts: dict[str, Start], scratch: Path) -> Iterator[ProcessPairs]:
    """Hold pairs of processes for as long as the context lasts, and wait for the first."""
    pairs = ProcessPairs(python, starts, scratch, fork_examiner(starts["head"].threads))
    try:
        pairs.start(1)
        pairs.examiner.receive()
        yield pairs
    finally:
        pairs.close()
