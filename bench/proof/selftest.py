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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pytest_benchmark.utils import parse_compare_fail
from torch import Tensor
from tqdm import tqdm

import attention

from ..cases import TIERS, Case, matrix
from ..gate import Gate
from ..judging.policy import Policy
from ..judging.verdict import CaseResult, Verdict
from ..plain.arguments import DEFAULT_THREADS, PERCENT, SECONDS, THREADS
from ..plain.errors import CannotDo
from ..plain.files import check_writable
from ..sides import source
from ..sides.base import Base
from ..sides.side import Side, base_side
from ..timing import environment
from ..timing.budget import SharedBudget
from ..timing.machine_load import LoadMeter
from . import picture
from .findings import Findings, Injection, UnchangedRun, report
from .silent import FAULTS, attempt

SLOWDOWNS = (0.02, 0.05, 0.10, 0.20)
OUTPUT_ERRORS = (0.01, 0.001, 0.0001)  # relative; the first must be over the budget of every dtype
INJECTIONS = 20  # injections of each size in a round
SPINNING = 0.1  # of a call's time, added to both sides before a slowdown is injected
STOCK_CHECKS = ("min:10%", "median:10%")
STOCK_SECONDS = 0.5  # a case; ours takes less


def add_command(commands: Any) -> None:
    """Declare ``selftest`` among the commands of the command line."""
    parser = commands.add_parser("selftest", help="measure false alarms and power of the gate on this machine")
    parser.add_argument("--tier", choices=TIERS, default="smoke", help="cases (default %(default)s)")
    parser.add_argument("-k", dest="only", default="", metavar="TEXT", help="cases whose id has it (default all)")
    PERCENT.declare(parser, "--gate-threshold", f"{100 * Policy.threshold:g}%", "the slowdown that must not pass")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "CPU threads")
    SECONDS.declare(parser, "--time-limit", "600", "of measuring; the first round is finished all the same")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the findings")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="draw noise and power (.svg or .png)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure until the time is up, at least one round, and report.

    Raises:
        CannotDo: no such case, a picture of another form, or a file that cannot be written.

    """
    if options.picture is not None and options.picture.suffix not in picture.FORMATS:
        raise CannotDo(f"--picture={options.picture}: give a name that ends in .svg or .png")
    for path in (options.json, options.picture):
        if path is not None:
            check_writable(path)
    torch.set_num_threads(options.threads)
    allocator = environment.steady_allocator()
    policy = Policy(options.gate_threshold, Policy.default_budget_s(options.gate_threshold))
    package = source.from_directory(Path(attention.__file__ or "").parent)
    with base_side(package) as side, tempfile.TemporaryDirectory() as scratch:
        subject = _Subject(Side.of("head", attention), Base(side, package), policy, options.tier, options.only)
        if not subject.cases:
            raise CannotDo(f"-k {options.only}: no case of tier {options.tier} has it in its id; give part of one")
        findings = Findings(environment.describe(allocator), policy, options.tier, len(subject.cases))
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
    """What is tested: two sides of the same code, the cases of a tier, and a random order of injections."""

    head: Side
    base: Base
    policy: Policy
    tier: str
    only: str = ""
    cases: list[Case] = field(init=False)
    order: random.Random = field(default_factory=lambda: random.Random(time.time_ns()))

    def __post_init__(self) -> None:
        matrix_ = matrix(self.head.kernels, self.head.modules, self.tier, ("cpu",))
        self.cases = [
            case for case, reason in matrix_.items() if reason is None and case.timed and self.only in case.id
        ]

    def compare(self, gate: Gate, case: Case, budget_s: float) -> CaseResult:
        return gate.compare(case, self.policy.test(len(self.cases)), budget_s)

    def some(self, count: int) -> Sequence[Case]:
        return self.order.sample(self.cases, min(count, len(self.cases)))


def _steps(subject: _Subject, findings: Findings, scratch: Path, options: argparse.Namespace) -> Iterator[str]:
    """Do round after round, without end; yields a description of each piece of work that is done."""
    last: list[Any] | None = None
    while True:
        stock = _stock_run(scratch, options)
        if last is not None:
            for check in STOCK_CHECKS:
                findings.stock.setdefault(check, []).append(_stock_fails(check, last, stock))
        last = stock
        yield "stock run"
        yield from _unchanged_run(subject, findings)
        yield from _silent_faults(findings, scratch)
        for slowdown in SLOWDOWNS:
            for case in subject.some(INJECTIONS):
                gate = Gate(subject.head, subject.base, distort=_slower(slowdown))
                result = subject.compare(gate, case, subject.policy.budget_s)
                caught = result.verdict is Verdict.REGRESSED
                findings.injected.append(Injection("slowdown", slowdown, case.id, caught=caught, result=result))
                yield f"{slowdown:.0%} slower: {result.verdict}"
        for error in OUTPUT_ERRORS:
            for case in subject.some(INJECTIONS):
                checked = Gate(_wrong(subject.head, error), subject.base).check(case)
                caught = any(e.complaints for e in checked.evidence.errors)
                findings.injected.append(Injection("output error", error, case.id, caught=caught))
            yield f"outputs off by {error:g}"


def _silent_faults(findings: Findings, scratch: Path) -> Iterator[str]:
    """Try each silent fault once; they are the same in every round."""
    for fault in FAULTS[len(findings.silent) :]:
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            findings.silent.append(attempt(fault, Path(__file__).parents[2], Path(place)))
        yield f"{fault.kind}: {'caught' if findings.silent[-1].caught else 'MISSED'}"


def _unchanged_run(subject: _Subject, findings: Findings) -> Iterator[str]:
    gate, results = Gate(subject.head, subject.base), []
    budget = SharedBudget(subject.policy.budget_s, len(subject.cases))
    for case in subject.cases:
        result = subject.compare(gate, case, budget.allowance_s())
        budget.spend(result.seconds)
        results.append(result)
        yield f"unchanged: {result.verdict}"
    findings.unchanged.append(UnchangedRun(tuple(results)))


def _slower(share: float) -> Callable[[str, Callable[[], None]], Callable[[], None]]:
    """Make the head's call take longer than the base's by a share, with work added to both.

    A call is a little faster after idle spinning than after another call (by 0.3 to 0.4%). So if only the head spun, it
    would be slower by less than the share.
    """

    def distort(label: str, call: Callable[[], None]) -> Callable[[], None]:
        factor = (1 + SPINNING) * (1 + share if label == "head" else 1.0)

        def distorted() -> None:
            start = time.perf_counter_ns()
            call()
            end = start + factor * (time.perf_counter_ns() - start)
            while time.perf_counter_ns() < end:
                pass

        return distorted

    return distort


def _wrong(side: Side, error: float) -> Side:
    """Make a side whose kernels, and with them its modules, return outputs that are off by a relative error."""

    def off(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *args, **kwargs: function(*args, **kwargs) * (1 + error)

    def wrong_module(build: Callable[..., torch.nn.Module]) -> Callable[..., torch.nn.Module]:
        def make(*args: Any, **kwargs: Any) -> torch.nn.Module:
            module = build(*args, **kwargs)
            module.register_forward_hook(lambda _module, _inputs, out: out * (1 + error))
            return module

        return make

    kernels = {name: replace(kernel, function=off(kernel.function)) for name, kernel in side.kernels.items()}
    return Side(side.label, kernels, {name: wrong_module(build) for name, build in side.modules.items()})


def _stock_run(scratch: Path, options: argparse.Namespace) -> list[Any]:
    """Time every case with pytest-benchmark alone, in a process of its own, as a stock gate does."""
    path = scratch / "stock.json"
    command = [sys.executable, "-m", "pytest", "bench/", "-q", "-p", "no:cacheprovider"]
    command += ["-k", options.only] if options.only else []
    command += [f"--tier={options.tier}", f"--threads={options.threads}", "--device=cpu"]
    command += [f"--benchmark-max-time={STOCK_SECONDS}", f"--benchmark-json={path}"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=alone, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotDo(f"the stock run failed: {done.stdout.strip().splitlines()[-1:]}: run pytest bench/ to see why")
    benchmarks: list[Any] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    return benchmarks


def _stock_fails(check: str, before: list[Any], after: list[Any]) -> bool:
    """Ask pytest-benchmark's own check whether any case fails."""
    rule = parse_compare_fail(check)
    compared = {benchmark["fullname"]: benchmark["stats"] for benchmark in before}
    return any(rule.fails(b["stats"], compared[b["fullname"]]) for b in after)
