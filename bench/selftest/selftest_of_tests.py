"""``selftest PATH``: the gate's false alarms and power on the benchmarks of a repository, on this machine.

A round times the tests by pytest-benchmark alone, compares unchanged code with itself, and then with every call of the
head slowed by known shares. Rounds are repeated until the time is up.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..judging.policy import Policy
from ..judging.run import Run
from ..judging.verdict import Verdict
from ..plain.arguments import DEFAULT_THREADS, PERCENT, SECONDS, THREADS
from ..plain.errors import CannotDo
from ..plain.files import check_writable, write_atomically
from ..plain.strict_json import dumps
from ..sessions.stored import as_of_now
from ..timing.machine import describe_machine, steady_allocator
from .runs import gated
from .runs import stock as stock_run
from .stock import CHECKS, fails

SLOWDOWNS = (0.02, 0.05, 0.10, 0.20)
SCHEMA = 1


def add_command(commands: Any) -> None:
    """Declare ``selftest`` among the commands of the command line."""
    parser = commands.add_parser("selftest", help="measure false alarms and power of the gate on this machine")
    parser.add_argument("tests", nargs="+", metavar="TEST", help="files, folders or node ids of benchmarks")
    declare(parser)
    parser.set_defaults(run=run)


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options that a self-test of any benchmarks has."""
    PERCENT.declare(parser, "--gate-threshold", f"{100 * Policy.threshold:g}%", "the slowdown that must not pass")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "cores")
    SECONDS.declare(parser, "--time-limit", "600", "of measuring; the first round is finished all the same")
    parser.add_argument("--gate-base", metavar="DIR", help="the same code again (default what is on disk)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the findings")


@dataclass
class FoundOfTests:
    """What was found: runs of unchanged code, and of slowed code by its share; ``stock`` as pytest-benchmark judged."""

    unchanged: list[Run] = field(default_factory=list)
    slowed: dict[float, list[Run]] = field(default_factory=lambda: defaultdict(list))
    stock: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    seconds: list[float] = field(default_factory=list)  # of whole runs of unchanged code

    def caught(self) -> dict[tuple[str, float], tuple[int, int]]:
        """Count the slowed tests that were REGRESSED, and those that were timed."""
        return {
            ("slowdown", share): (
                sum(case.verdict is Verdict.REGRESSED for run in runs for case in run.cases),
                sum(case.ratio is not None for run in runs for case in run.cases),
            )
            for share, runs in self.slowed.items()
        }


def run(options: argparse.Namespace) -> None:
    """Measure until the time is up, at least one round, and print what was found.

    Raises:
        CannotDo: the tests cannot be compared, scipy is not installed, or a file cannot be written.

    """
    try:
        from . import counting  # noqa: PLC0415  # scipy is wanted here alone
    except ImportError as error:
        raise CannotDo(
            "selftest counts with scipy, which is not installed: pip install 'twinbench[selftest]'"
        ) from error
    if options.json is not None:
        check_writable(options.json)
    policy, found = Policy(options.gate_threshold), FoundOfTests()
    start = time.monotonic()
    with TemporaryDirectory(prefix="twinbench-") as scratch:
        base = options.gate_base or _stored_now(Path(scratch))
        for said in _rounds(found, base, options):
            seconds = time.monotonic() - start
            print(f"{seconds:5.0f} s  {said}", flush=True)
            if seconds > options.time_limit and len(found.slowed) == len(SLOWDOWNS):
                break
    machine, tests = describe_machine(steady_allocator()), len(found.unchanged[0].cases)
    what = f"self-test: {tests} tests, threshold {100 * policy.threshold:g}%, {time.monotonic() - start:.0f} s"
    lines = [
        f"{what}; {machine['cpu']}, {machine['cores']} cores",
        *counting.false_alarms([one.cases for one in found.unchanged]),
        *counting.power(found.caught(), policy.threshold),
        *counting.stock(found.stock),
        counting.row("seconds of a run of unchanged code", ", ".join(f"{seconds:.0f}" for seconds in found.seconds)),
    ]
    print("\n".join(lines))
    if options.json is not None:
        write_atomically(options.json, dumps(_document(found, policy, machine), indent=2))


def _stored_now(scratch: Path) -> str:
    """Store what is on disk as a baseline, so that the base is the same code."""
    path = scratch / "unchanged.json"
    path.write_text(json.dumps(as_of_now(Path.cwd())), encoding="utf-8")
    return str(path)


def _rounds(found: FoundOfTests, base: str, options: argparse.Namespace) -> Iterator[str]:
    """Do round after round, without end; says what each piece of work came to."""
    given = [
        *options.tests,
        f"--gate-base={base}",
        f"--gate-threshold={100 * options.gate_threshold:g}%",
        f"--gate-threads={options.threads}",
    ]
    last: list[dict[str, Any]] | None = None
    while True:
        times = stock_run(options.tests)
        for check in CHECKS if last is not None else ():
            found.stock[check].append(fails(check, last or [], times))
        last = times
        yield f"pytest-benchmark alone: {len(times)} tests"
        start = time.monotonic()
        found.unchanged.append(gated(given))
        found.seconds.append(time.monotonic() - start)
        yield f"unchanged: {_counts(found.unchanged[-1])}"
        for share in SLOWDOWNS:
            found.slowed[share].append(gated([*given, f"--gate-slowed={100 * share:g}%"]))
            yield f"{share:.0%} slower: {_counts(found.slowed[share][-1])}"


def _counts(one: Run) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in one.summary.items())


def _document(found: FoundOfTests, policy: Policy, machine: dict[str, str | int]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "environment": machine,
        "threshold": policy.threshold,
        "unchanged": [one.summary for one in found.unchanged],
        "slowed": {f"{share:g}": [one.summary for one in runs] for share, runs in found.slowed.items()},
        "stock": {check: {"failed": sum(runs), "runs": len(runs)} for check, runs in found.stock.items()},
        "seconds": found.seconds,
    }
