"""``selftest`` of the matrix: unchanged code, known slowdowns, errors and silent faults, beside the stock gate.

A round is one run of the stock gate and one of ours on unchanged code, then single cases with real extra work of known
size, then cases with a known error. With ``--pairs`` the noise of unchanged code is recorded instead, to be replayed.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..judging.policy import Policy
from ..judging.replication import Replications
from ..judging.run import Run
from ..judging.verdict import CaseResult, Verdict
from ..plain.errors import CannotDo
from ..plain.evidence import Evidence, Measurement
from ..plain.files import check_writable
from ..report import formats
from ..sources.source import Source
from ..sources.target import ATTENTION, SUITE
from ..suite import code
from ..suite.base import Base
from ..suite.cases import DEVICES, Case
from ..suite.forked import LayOut, Twins, opened
from ..suite.gate import Gate
from ..suite.matrix import TIERS
from ..timing import environment
from ..timing.budget import SharedBudget
from ..timing.measure import Never
from . import of_tests, picture
from .faults import FAULTS
from .findings import SLOWDOWNS, Findings, Injection, UnchangedRun, report
from .trials import attempt

OUTPUT_ERRORS = (0.01, 0.001, 0.0001)  # relative; the first must be over the budget of every dtype
INJECTIONS = 20  # injections of each size in a round
STOCK_SECONDS = 0.5  # a case; ours takes less
TWINS = 5  # pairs of them in a recording: the gate decides by two of three, and which three a replay takes is drawn


def add_command(commands: Any) -> None:
    """Declare ``selftest`` among the commands of the command line."""
    parser = of_tests.declare(commands, "*", "benchmarks of their own, in place of the matrix")
    parser.add_argument("--tier", choices=TIERS, default="smoke", help="cases (default %(default)s)")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where (default %(default)s)")
    parser.add_argument("-k", dest="only", default="", metavar="TEXT", help="cases whose id has it (default all)")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="draw noise and power (.svg or .png)")
    parser.add_argument(
        "--pairs", type=Path, metavar="PATH", help="only record the noise of unchanged code, for replay"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure until the time is up, at least one run of unchanged code, and report; or record the noise.

    Raises:
        CannotDo: no such case or device, a picture of another form, or a file that cannot be written.

    """
    if options.tests:
        of_tests.run(options)
        return
    if options.picture is not None and options.picture.suffix not in picture.FORMATS:
        raise CannotDo(f"--picture={options.picture}: give a name that ends in .svg or .png")
    for path in filter(None, (options.json, options.picture, options.pairs)):
        check_writable(path)
    environment.check_device(options.device)
    here = environment.describe(environment.hold_still(options.threads))
    if options.pairs is not None:
        formats.write("pairs", _record(options, here), options.pairs)
        return
    policy = Policy(options.gate_threshold, Policy.default_budget_s(options.gate_threshold))
    found = Findings(here, policy, options.tier)
    with _subject(options, policy) as subject, tempfile.TemporaryDirectory() as scratch:
        steps = _steps(subject, found, Path(scratch), options)
        least = 1 + len(subject.cases) + 1  # the stock run, every case unchanged, and the first silent fault
        with tqdm(total=round(options.time_limit), unit="s", bar_format="{l_bar}{bar}| {n}/{total} s{postfix}") as bar:

            def say(seconds: float, step: str) -> None:
                bar.n = round(min(seconds, options.time_limit))
                bar.set_postfix_str(step)

            found = of_tests.conduct(found, steps, least, options.time_limit, say)
    report(found, options.json)
    if options.picture is not None:
        picture.draw(found, options.picture)


@dataclass
class _Subject:
    """What is tested: twins of the same code, the cases of a tier, and a random order of injections."""

    sides: Twins
    package: Source
    policy: Policy
    device: str
    cases: list[Case]
    order: random.Random = field(default_factory=lambda: random.Random(time.time_ns()))

    @property
    def gate(self) -> Gate:
        return Gate(self.sides, Base(self.package))

    def compare(self, case: Case, budget_s: float, run: Replications | None = None) -> CaseResult:
        """Compare a case as one of a run, or else as the first that seems slower in its own."""
        run = run or Replications(self.policy.false_alarm)
        on_gpu = self.device == "cuda"
        test = self.policy.test(len(self.cases) * (1 + on_gpu), replications=run, host=on_gpu)
        result = self.gate.compare(case, test, budget_s)
        run.settle(result)
        return result

    def slowed(self, case: Case, share: float) -> CaseResult:
        """Compare a case whose calls the head makes slower than the base by a share, with work added to both."""
        self.sides.slow_down({"base": 0.0, "head": share})
        try:
            return self.compare(case, self.policy.budget_s)
        finally:
            self.sides.slow_down({"base": None, "head": None})

    def is_drift_caught(self, case: Case, error: float) -> bool:
        """Whether results of the head that are off by a relative error are."""
        self.sides.head.ask("falsify", error)
        try:
            return any(e.complaints for e in self.gate.check(case).errors)
        finally:
            self.sides.head.ask("falsify", 0.0)

    def some(self) -> Sequence[Case]:
        return self.order.sample(self.cases, min(INJECTIONS, len(self.cases)))


@contextmanager
def _subject(options: argparse.Namespace, policy: Policy) -> Iterator[_Subject]:
    """Hold twins of the package as it is on disk, the base of a copy, for as long as the context lasts.

    Raises:
        CannotDo: no case is asked for.

    """
    head = code.of_working_tree(ATTENTION)
    codes: dict[str, LayOut] = {"head": lambda _: head, "base": partial(code.of_archive, ATTENTION, head.source)}
    with opened(codes, ATTENTION, (options.device,), options.threads) as (sides, _):
        every = sides.head.ask("cases", options.tier, (options.device,))
        cases = [c for c, reason in every.items() if reason is None and c.timed and options.only in c.id]
        if not cases:
            raise CannotDo(f"-k {options.only}: no case of tier {options.tier} has it in its id; give part of one")
        yield _Subject(sides, head.source, policy, options.device, cases)


def _steps(subject: _Subject, found: Findings, scratch: Path, options: argparse.Namespace) -> Iterator[str]:
    """Do round after round, without end; yields a description of each piece of work that is done."""
    given = [f"--tier={options.tier}", f"--threads={options.threads}", f"--device={options.device}"]
    given += ["-k", options.only] if options.only else []
    alone = of_tests.stock_steps(found, ["bench/", *given, f"--benchmark-max-time={STOCK_SECONDS}"], SUITE)
    while True:
        yield next(alone)
        yield from _unchanged_run(subject, found)
        yield from _silent_faults(found, scratch, options.device)
        for slowdown in SLOWDOWNS:
            for case in subject.some():
                result = subject.slowed(case, slowdown)
                found.injected.append(Injection.slowdown(slowdown, result))
                yield f"{slowdown:.0%} slower: {result.verdict}"
        for error in OUTPUT_ERRORS:
            for case in subject.some():
                caught = subject.is_drift_caught(case, error)
                found.injected.append(Injection("output error", error, case.id, caught=caught))
            yield f"outputs off by {error:g}"


def _silent_faults(found: Findings, scratch: Path, device: str) -> Iterator[str]:
    """Try each silent fault once; they are the same in every round."""
    for fault in FAULTS[len(found.silent) :]:
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            caught = found.silent[fault.kind] = attempt(fault, Path(place), device=device).caught
        yield f"{fault.kind}: {'caught' if caught else 'MISSED'}"


def _unchanged_run(subject: _Subject, found: Findings) -> Iterator[str]:
    results = []
    budget, run = SharedBudget(subject.policy.budget_s, len(subject.cases)), Replications(subject.policy.false_alarm)
    for case in subject.cases:
        result = subject.compare(case, budget.allowance_s(), run)
        budget.spend(result.seconds)
        results.append(result)
        yield f"unchanged: {result.verdict}"
    found.unchanged.append(UnchangedRun(tuple(results)))


def _record(options: argparse.Namespace, here: dict[str, str | int]) -> Run:
    """Measure every case in each pair of twins, for its share of the time and not only until it is decided."""
    measured: dict[str, tuple[Measurement, ...]] = {}
    policy = Policy()
    for _ in tqdm(range(TWINS), unit="pair of twins"):
        with _subject(options, policy) as subject:
            for case in subject.cases:
                subject.gate.check(case)
                measurement = subject.sides.measure(Never(), options.time_limit / TWINS / len(subject.cases))
                measured[case.id] = (*measured.get(case.id, ()), measurement)
    results = tuple(CaseResult(Evidence(id_, measurements=all_), Verdict.UNCHANGED) for id_, all_ in measured.items())
    described = subject.package.described
    return Run(described, described, here, policy, results)
