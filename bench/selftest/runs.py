"""Runs pytest in a process of its own, as a command needs it, and reads what it wrote."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..judging.run import Run
from ..plain.errors import CannotDo
from ..report.from_json import from_json

PLUGIN = f"{__package__.partition('.')[0]}.sessions.plugin"
VERDICTS = (0, 1, 4)  # exit codes of a run that may have written its verdicts


def gated(arguments: Sequence[str]) -> Run:
    """Run the gate over tests, and return the run.

    Raises:
        CannotDo: the comparison cannot be made.

    """
    with TemporaryDirectory(prefix="twinbench-") as scratch:
        path = Path(scratch) / "verdicts.json"
        done = _pytest([*arguments, *_loading(), f"--gate-json={path}"])
        if done.returncode not in VERDICTS or not path.exists():
            raise CannotDo(_last_line(done))
        return from_json(path.read_text(encoding="utf-8"))


def stock(arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Time tests by pytest-benchmark alone, and return its figures of each.

    Raises:
        CannotDo: a test failed.

    """
    with TemporaryDirectory(prefix="twinbench-") as scratch:
        path = Path(scratch) / "stock.json"
        done = _pytest([*arguments, f"--benchmark-json={path}"])
        if done.returncode != 0:
            raise CannotDo(f"pytest-benchmark's own run failed ({_last_line(done)}): run pytest to see why")
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
        return found


def _pytest(arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, env=alone, capture_output=True, text=True, errors="replace", check=False)


def _loading() -> list[str]:
    """Return what makes pytest load the plugin where it is not installed."""
    installed = [entry.value for entry in entry_points(group="pytest11") if entry.value == PLUGIN]
    return [] if installed else ["-p", PLUGIN]


def _last_line(done: "subprocess.CompletedProcess[str]") -> str:
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR: ", "gate: ERROR"))]
    return (errors or lines or ["pytest said nothing"])[-1].removeprefix("ERROR: ").removeprefix("gate: ERROR, ")
