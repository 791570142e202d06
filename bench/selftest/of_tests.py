"""``selftest``: can the gate be trusted here? Its false alarms and its power, on this machine, beside the stock gate.

A round times the tests by pytest-benchmark alone, compares unchanged code with itself, and then with every call of the
head slowed by known shares. Rounds are repeated until the time is up. ``of_suite`` does the same with the matrix.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..judging.policy import Policy
from ..plain.arguments import DEFAULT_THREADS, PERCENT, SECONDS, THREADS
from ..plain.files import check_writable
from ..plain.optional import require
from ..report.text import counts
from ..sessions.stored import as_of_now
from ..timing.machine import describe_machine, steady_allocator
from .findings import SLOWDOWNS, Findings, Injection, UnchangedRun, report
from .runs import STOCK_CHECKS, gated, stock, stock_fails


def add_command(commands: Any) -> None:
    """Declare ``selftest`` among the commands of the command line."""
    declare(commands, "+", "files, folders or node ids of benchmarks").set_defaults(run=run)


def declare(commands: Any, number: str, tests: str) -> argparse.ArgumentParser:
    """Declare the command with the options that a self-test of any benchmarks has; ``number`` is argparse's nargs."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "selftest", help="measure false alarms and power of the gate on this machine"
    )
    parser.add_argument("tests", nargs=number, metavar="TEST", help=tests)
    PERCENT.declare(parser, "--gate-threshold", f"{100 * Policy.threshold:g}%", "the slowdown that must not pass")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "cores")
    SECONDS.declare(parser, "--time-limit", "600", "of measuring; the first round is finished all the same")
    parser.add_argument("--gate-base", metavar="DIR", help="the same code again (default what is on disk)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the findings")
    return parser


def run(options: argparse.Namespace) -> None:
    """Measure until the time is up, at least one round, and print what was found.

    Raises:
        CannotDo: the tests cannot be compared, scipy is not installed, or a file cannot be written.

    """
    require("scipy", "selftest", "selftest")
    if options.json is not None:
        check_writable(options.json)
    found = Findings(describe_machine(steady_allocator()), Policy(options.gate_threshold))
    with TemporaryDirectory(prefix="twinbench-") as scratch:
        base = options.gate_base or _stored_now(Path(scratch))
        steps = _steps(found, base, options)
        report(conduct(found, steps, 2 + len(SLOWDOWNS), options.time_limit, _say), options.json)


def conduct(
    found: Findings, steps: Iterator[str], least: int, limit_s: float, say: Callable[[float, str], None]
) -> Findings:
    """Take steps, which fill the findings, until the time is up, but at least so many; ``say`` hears of each."""
    start = time.monotonic()
    for number, step in enumerate(steps, start=1):
        seconds = time.monotonic() - start
        say(seconds, step)
        if seconds > limit_s and number >= least:
            break
    return replace(found, seconds=time.monotonic() - start)


def _say(seconds: float, step: str) -> None:
    print(f"{seconds:5.0f} s  {step}", flush=True)


def _stored_now(scratch: Path) -> str:
    """Store what is on disk as a baseline, so that the base is the same code."""
    path = scratch / "unchanged.json"
    path.write_text(json.dumps(as_of_now(Path.cwd())), encoding="utf-8")
    return str(path)


def _steps(found: Findings, base: str, options: argparse.Namespace) -> Iterator[str]:
    """Do round after round, without end; yields what each piece of work came to."""
    given = [*options.tests, f"--gate-base={base}"]
    alone = stock_steps(found, options.tests)
    while True:
        yield next(alone)
        start = time.monotonic()
        one = gated(given, options)
        found.unchanged.append(UnchangedRun(one.cases, time.monotonic() - start))
        yield f"unchanged: {counts(one.cases)}"
        for share in SLOWDOWNS:
            one = gated([*given, f"--gate-slowed={100 * share:g}%"], options)
            found.injected.extend(Injection.slowdown(share, case) for case in one.cases if case.ratio is not None)
            yield f"{share:.0%} slower: {counts(one.cases)}"


def stock_steps(found: Findings, arguments: Sequence[str], where: Path | None = None) -> Iterator[str]:
    """Time the tests by pytest-benchmark alone at each step, and hold them to the step before by its own checks."""
    before: list[dict[str, Any]] = []
    while True:
        times = stock(arguments, where)
        for check in STOCK_CHECKS if before else ():
            found.stock.setdefault(check, []).append(stock_fails(check, before, times))
        before = times
        yield f"pytest-benchmark alone: {len(times)} tests"
