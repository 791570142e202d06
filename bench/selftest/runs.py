"""Runs pytest in a process of its own, as a command needs it, and reads what it wrote."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pytest_benchmark.utils import parse_compare_fail

from ..judging.run import Run
from ..plain.errors import CannotDo
from ..report.from_json import from_json

PLUGIN = f"{__package__.partition('.')[0]}.sessions.plugin"
VERDICTS = (0, 1, 4)  # exit codes of a run that may have written its verdicts
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
STOCK_CHECKS = ("min:10%", "median:10%")


def gated(arguments: Sequence[str], options: argparse.Namespace) -> Run:
    """Run the gate over tests, with a command's own threshold and threads, and return the run.

    Raises:
        CannotDo: the comparison cannot be made.

    """
    with TemporaryDirectory(prefix="twinbench-") as scratch:
        path = Path(scratch) / "verdicts.json"
        given = [f"--gate-threshold={100 * options.gate_threshold:g}%", f"--gate-threads={options.threads}"]
        done = process(*PYTEST, *arguments, *given, *_loading(), f"--gate-json={path}")
        if done.returncode not in VERDICTS or not path.exists():
            raise CannotDo(_last_line(done))
        return from_json(path.read_text(encoding="utf-8"))


def stock(arguments: Sequence[str], where: Path | None = None) -> list[dict[str, Any]]:
    """Time tests by pytest-benchmark alone, and return its figures of each.

    Raises:
        CannotDo: a test failed.

    """
    with TemporaryDirectory(prefix="twinbench-") as scratch:
        path = Path(scratch) / "stock.json"
        done = process(*PYTEST, *arguments, f"--benchmark-json={path}", where=where)
        if done.returncode != 0:
            raise CannotDo(f"pytest-benchmark's own run failed ({_last_line(done)}): run pytest to see why")
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
        return found


def stock_fails(check: str, before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Ask pytest-benchmark's own check whether any case of a run fails against another run."""
    rule = parse_compare_fail(check)
    compared = {benchmark["fullname"]: benchmark["stats"] for benchmark in before}
    return any(rule.fails(b["stats"], compared[b["fullname"]]) for b in after)


def process(
    *command: str | Path, where: Path | None = None, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command and keep what it prints; by default it sees every environment variable but pytest's own."""
    environment = environment or environment_without("PYTEST_")
    return subprocess.run(
        [*map(str, command)], cwd=where, env=environment, capture_output=True, text=True, errors="replace", check=False
    )


def environment_without(*prefixes: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def _loading() -> list[str]:
    """Return what makes pytest load the plugin where it is not installed."""
    installed = [entry.value for entry in entry_points(group="pytest11") if entry.value == PLUGIN]
    return [] if installed else ["-p", PLUGIN]


def _last_line(done: "subprocess.CompletedProcess[str]") -> str:
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR: ", "gate: ERROR"))]
    return (errors or lines or ["pytest said nothing"])[-1].removeprefix("ERROR: ").removeprefix("gate: ERROR, ")
