"""Tests the gate itself: on unchanged code, known slowdowns, errors and silent faults, beside the stock gate.

``python -m bench selftest`` repeats rounds until its time is up. A round is one run of the stock gate and one of ours
on unchanged code, then single cases with real extra work of known size, then cases with a known error.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..judging.policy import Policy
from ..judging.replication import Replications
from ..judging.verdict import CaseResult, Verdict
from ..plain.errors import CannotDo
from ..plain.files import check_writable
from ..suite.base import Base
from ..suite.cases import DEVICES, Case
from ..suite.forked import Twins
from ..suite.gate import Gate
from ..suite.matrix import TIERS
from ..timing import environment
from ..timing.budget import SharedBudget
from ..timing.machine import steady_allocator
from ..timing.machine_load import LoadMeter
from . import picture, selftest_of_tests, stock
from .faults import FAULTS
from .findings import Findings, Injection, UnchangedRun, report
from .same_code import same_code_twice
from .trials import attempt

SLOWDOWNS = (0.02, 0.05, 0.10, 0.20)
OUTPUT_ERRORS = (0.01, 0.001, 0.0001)  # relative; the first must be over the budget of every dtype
INJECTIONS = 20  # injections of each size in a round
STOCK_SECONDS = 0.5  # a case; ours takes less


def add_command(commands: Any) -> None:
    """Declare ``selftest`` among the commands of the command line."""
    parser = commands.add_parser("selftest", help="measure false alarms and power of the gate on this machine")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="benchmarks of their own, in place of the matrix")
    parser.add_argument("--tier", choices=TIERS, default="smoke", help="cases (default %(default)s)")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where (default %(default)s)")
    parser.add_argument("-k", dest="only", default="", metavar="TEXT", help="cases whose id has it (default all)")
    selftest_of_tests.declare(parser)
    parser.add_argument("--picture", type=Path, metavar="PATH", help="draw noise and power (.svg or .png)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure until the time is up, at least one round, and report.

    Raises:
        CannotDo: no such case, a picture of another form, or a file that cannot be written.

    """
    if options.tests:
        selftest_of_tests.run(options)
        return
    if options.picture is not None and options.picture.suffix not in picture.FORMATS:
        raise CannotDo(f"--picture={options.picture}: give a name that ends in .svg or .png")
    for path in (options.json, options.picture):
        if path is not None:
            check_writable(path)
    torch.set_num_threads(options.threads)
    policy = Policy(options.gate_threshold, Policy.default_budget_s(options.gate_threshold))
    with same_code_twice(options.threads, options.device) as (sides, package), tempfile.TemporaryDirectory() as scratch:
        subject = _Subject(sides, Gate(sides, Base(package)), policy, options.tier, options.only, options.device)
        if not subject.cases:
            raise CannotDo(f"-k {options.only}: no case of tier {options.tier} has it in its id; give part of one")
        findings = Findings(environment.describe(steady_allocator()), policy, options.tier, len(subject.cases))
        meter = LoadMeter()
        with tqdm(total=round(options.time_limit), unit="s", bar_format="{l_bar}{bar}| {n}/{total} s{postfix}") as bar:
            start = time.monotonic()
            for step in _steps(subject, findings, Path(scratch), options):
                elapsed = time.monotonic() - start
                bar.n = round(min(elapsed, options.time_limit))
                bar.set_postfix_str(step)
                if elapsed > options.time_limit and findings.unchanged:
                    break
            findings = replace(findings, seconds=time.monotonic() - start, load=meter.read())
    report(findings, options.json)
    if options.picture is not None:
        picture.draw(findings, options.picture)


@dataclass
class _Subject:
    """What is tested: twins of the same code, the cases of a tier, and a random order of injections."""

    sides: Twins
    gate: Gate
    policy: Policy
    tier: str
    only: str = ""
    device: str = "cpu"
    cases: list[Case] = field(init=False)
    order: random.Random = field(default_factory=lambda: random.Random(time.time_ns()))

    def __post_init__(self) -> None:
        every = self.sides.head.ask("cases", self.tier, (self.device,))
        self.cases = [case for case, reason in every.items() if reason is None and case.timed and self.only in case.id]

    def compare(self, case: Case, budget_s: float, run: Replications | None = None) -> CaseResult:
        """Compare a case as one of a run, or else as the first that seems slower in its own."""
        run = run or Replications(self.policy.false_alarm)
        on_gpu = self.device == "cuda"
        test = self.policy.test(len(self.cases) * (1 + on_gpu), replications=run, host=on_gpu)
        result = self.gate.compare(case, test, budget_s)
        run.settle(result)
        return result

    @contextmanager
    def slowed(self, share: float) -> Iterator[None]:
        """Make the head's calls slower than the base's by a share, with work added to both."""
        self.sides.slow_down({"base": 0.0, "head": share})
        try:
            yield
        finally:
            self.sides.slow_down({"base": None, "head": None})

    def is_drift_caught(self, case: Case, error: float) -> bool:
        """Whether results of the head that are off by a relative error are."""
        self.sides.head.ask("falsify", error)
        try:
            return any(e.complaints for e in self.gate.check(case).errors)
        finally:
            self.sides.head.ask("falsify", 0.0)

    def some(self, count: int) -> Sequence[Case]:
        return self.order.sample(self.cases, min(count, len(self.cases)))


def _steps(subject: _Subject, findings: Findings, scratch: Path, options: argparse.Namespace) -> Iterator[str]:
    """Do round after round, without end; yields a description of each piece of work that is done."""
    last: list[Any] | None = None
    while True:
        times = _stock_run(scratch, options)
        if last is not None:
            for check in stock.CHECKS:
                findings.stock.setdefault(check, []).append(stock.fails(check, last, times))
        last = times
        yield "stock run"
        yield from _unchanged_run(subject, findings)
        yield from _silent_faults(findings, scratch, options.device)
        for slowdown in SLOWDOWNS:
            for case in subject.some(INJECTIONS):
                with subject.slowed(slowdown):
                    result = subject.compare(case, subject.policy.budget_s)
                caught = result.verdict is Verdict.REGRESSED
                findings.injected.append(Injection("slowdown", slowdown, case.id, caught=caught, result=result))
                yield f"{slowdown:.0%} slower: {result.verdict}"
        for error in OUTPUT_ERRORS:
            for case in subject.some(INJECTIONS):
                caught = subject.is_drift_caught(case, error)
                findings.injected.append(Injection("output error", error, case.id, caught=caught))
            yield f"outputs off by {error:g}"


def _silent_faults(findings: Findings, scratch: Path, device: str) -> Iterator[str]:
    """Try each silent fault once; they are the same in every round."""
    for fault in FAULTS[len(findings.silent) :]:
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            findings.silent.append(attempt(fault, Path(__file__).parents[2], Path(place), device=device))
        yield f"{fault.kind}: {'caught' if findings.silent[-1].caught else 'MISSED'}"


def _unchanged_run(subject: _Subject, findings: Findings) -> Iterator[str]:
    results = []
    budget, run = SharedBudget(subject.policy.budget_s, len(subject.cases)), Replications(subject.policy.false_alarm)
    for case in subject.cases:
        result = subject.compare(case, budget.allowance_s(), run)
        budget.spend(result.seconds)
        results.append(result)
        yield f"unchanged: {result.verdict}"
    findings.unchanged.append(UnchangedRun(tuple(results)))


def _stock_run(scratch: Path, options: argparse.Namespace) -> list[Any]:
    """Time every case with pytest-benchmark alone, in a process of its own, as a stock gate does."""
    path = scratch / "stock.json"
    command = [sys.executable, "-m", "pytest", "bench/", "-q", "-p", "no:cacheprovider"]
    command += ["-k", options.only] if options.only else []
    command += [f"--tier={options.tier}", f"--threads={options.threads}", f"--device={options.device}"]
    command += [f"--benchmark-max-time={STOCK_SECONDS}", f"--benchmark-json={path}"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=alone, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotDo(f"the stock run failed: {done.stdout.strip().splitlines()[-1:]}: run pytest bench/ to see why")
    benchmarks: list[Any] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    return benchmarks
