"""Pairs of processes that are not from one image, so that the base can have another interpreter."""

import random
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

from ..judging.statistics import PairedTest
from ..plain.evidence import Measurement
from ..timing.measure import StoppingRule
from ..twins.between import MOST_PAIRS, measure_processes, note_of_processes
from ..twins.bursts import available_cores, measure_bursts
from ..twins.interpreter import spawn
from ..twins.parties import Parties
from ..twins.party import Remote
from .forked import fork_examiner
from .worker import Start

WORKER = f"{__package__}.worker"
ADVICE = ": choose a base and an interpreter for it"


@dataclass
class ProcessPairs:
    """Pairs of processes, the base under one interpreter and the head under this one, that share the same cores.

    The pairs that the first case needs are started first; the others one by one, as measuring needs them.
    """

    python: str
    starts: dict[str, Start]  # by label
    scratch: Path
    pairs: list[Parties] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)  # of pairs ever started
    again: None = None  # each pair of processes is one observation of a measurement already

    def __post_init__(self) -> None:
        self._examiners = Parties(("examiner",), lambda _: fork_examiner(self.starts["head"].threads), ADVICE)

    @property
    def examiner(self) -> Remote:
        return self._examiners["examiner"]

    @property
    def head(self) -> Remote:
        return self.pairs[0]["head"]

    @property
    def base(self) -> Remote:
        return self.pairs[0]["base"]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the verdicts must know about how they were measured, and what could not be."""
        return (note_of_processes(len(self.pairs), MOST_PAIRS),)

    def ready(self) -> None:
        self._examiners.begin()
        self.start(1)
        self._examiners.wait()

    def start(self, wanted: int) -> None:
        """Make sure that ``wanted`` pairs, at most ``MOST_PAIRS``, live and have loaded.

        Missing ones are started, as many at a time as there are cores for. Dead ones are replaced, so that a case that
        crashed a process does not fail the cases after it.

        Raises:
            CannotDo: a side does not load in its process.

        """
        wanted, at_once = min(wanted, MOST_PAIRS), max(1, len(available_cores()) // 2)
        for pair in [pair for pair in self.pairs if len(pair.living) < len(pair.labels)]:
            self.pairs.remove(pair)
            pair.close()
        while True:
            for pair in self.pairs:
                pair.wait()
            if len(self.pairs) >= wanted:
                return
            self.pairs += [self._pair(next(self.numbers)) for _ in range(min(wanted - len(self.pairs), at_once))]

    def _pair(self, number: int) -> Parties:
        """Start both sides on the same cores, each pair on the next ones; a fair coin decides which starts first."""
        every = available_cores()
        threads = self.starts["head"].threads
        wanted = range(number * threads, (number + 1) * threads)
        cores = sorted({every[i % len(every)] for i in wanted}) if every else []

        def launch(label: str) -> Remote:
            python = self.python if label == "base" else sys.executable
            started = spawn(python, label, self.scratch, WORKER)
            started.send("load", self.starts[label], cores)
            return started

        pair = Parties(random.sample(["base", "head"], 2), launch, ADVICE)
        pair.begin()
        return pair

    def measure(self, rule: StoppingRule, budget_s: float, *, host: bool = False) -> Measurement:
        """Take an observation from one pair of processes after the other until the test is certain.

        Raises:
            SideFailed: a side raised, or wrote to its inputs.

        """
        assert isinstance(rule, PairedTest)  # each pair of processes is one observation
        self.start(max(len(self.pairs), rule.least_pairs))  # a process that loads would disturb the others
        return measure_processes(partial(self._measure_in, host=host), rule, budget_s, MOST_PAIRS)

    def _measure_in(self, number: int, rule: StoppingRule, budget_s: float, *, host: bool) -> Measurement:
        self.start(number + 1)
        pair = self.pairs[number]
        for label in pair.labels:
            pair[label].ask("take", self.scratch / "workload.pt")
        return measure_bursts(pair["base"], pair["head"], rule, budget_s, host=host)

    def close(self) -> None:
        for parties in (self._examiners, *self.pairs):
            parties.close()


@contextmanager
def process_pairs(python: str, starts: dict[str, Start], scratch: Path) -> Iterator[ProcessPairs]:
    """Hold pairs of processes for as long as the context lasts, and wait for the first."""
    with closing(ProcessPairs(python, starts, scratch)) as pairs:
        pairs.ready()
        yield pairs
