"""``python -m bench demo``: plants a slowdown and a wrong number in a copy of the suite, and runs the gate on it."""

import argparse
import difflib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import Any

from ..plain.errors import CannotDo
from ..plain.files import check_writable
from ..sides.what import PACKAGE, SUITE
from .silent import copy_suite

CASES = "(manual- or masked- or sdpa-) and (b1h4t64d32- or b1h8t1k256d64-)"
BEFORE = "../before"  # the kernels without the edits, beside the copy
BRIEFLY = ("-q", "--tb=no", "-rN")  # the table says what the text of each failure says


@dataclass(frozen=True)
class Edit:
    """An edit that a reviewer could overlook, and the verdict that some case of its kernel must get."""

    why: str
    kernel: str
    before: str
    after: str
    verdict: str


EDITS = (
    Edit(
        "masked: subtract the largest score once more, for stability. Right, but softmax does so already",
        "masked",
        "    if mask is None and visible is None:\n",
        "    scores = scores - scores.amax(dim=-1, keepdim=True)\n    if mask is None and visible is None:\n",
        "REGRESSED",
    ),
    Edit(
        "manual: round the scale. Easier to read, and wrong by 2%",
        "manual",
        "scale = q.shape[-1] ** -0.5",
        "scale = round(q.shape[-1] ** -0.5, 2)",
        "DRIFTED",
    ),
)


def add_command(commands: Any) -> None:
    """Declare ``demo`` among the commands of the command line."""
    parser = commands.add_parser("demo", help="plant a slowdown and a wrong number in a copy; the gate catches both")
    parser.add_argument("--html", type=Path, metavar="PATH", help="write the report page of the failing run")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show the edits, run the gate on them, and say what it caught; returns 0 if it caught all of them, else 1.

    Raises:
        CannotDo: a kernel no longer holds the text to edit, the page cannot be written, or the gate did not compare.

    """
    start = time.monotonic()
    if options.html is not None:
        check_writable(options.html)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "suite")
        for place in (copy, copy / BEFORE):
            shutil.copytree(SUITE / PACKAGE, place / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        copy_suite(SUITE, copy)
        print("In a copy of this suite, two edits:\n")
        for edit in EDITS:
            print(f"# {edit.why}", *plant(edit, copy), sep="\n")
        results = Path(scratch, "gate.json")
        pytest = ["pytest", "bench/", "--tier=smoke", f"--gate-base={BEFORE}", "-k", CASES]
        print(f"\n$ {join(pytest)}\n", flush=True)
        command = [sys.executable, "-m", *pytest, f"--gate-json={results}", *BRIEFLY]
        command += [] if options.html is None else [f"--gate-html={options.html.absolute()}"]
        exit_code = subprocess.run(command, cwd=copy, check=False).returncode
        if not results.is_file():
            raise CannotDo(f"the gate made no comparison (exit code {exit_code}): the lines above say why")
        cases = json.loads(results.read_text(encoding="utf-8"))["cases"]
    caught = [edit for edit in EDITS if any(_is(edit, case) for case in cases)]
    seconds = time.monotonic() - start
    print(f"\ncaught: {len(caught)} of {len(EDITS)} edits, in {seconds:.0f} s; your own files are as they were")
    return 0 if exit_code == 1 and len(caught) == len(EDITS) else 1


def plant(edit: Edit, suite: Path) -> Iterator[str]:
    """Edit a file in a copy of the suite; returns the lines that differ.

    Raises:
        CannotDo: the kernel does not hold the text exactly once.

    """
    path = suite / PACKAGE / f"{edit.kernel}.py"
    before = path.read_text(encoding="utf-8")
    if before.count(edit.before) != 1:
        raise CannotDo(f"{PACKAGE}/{path.name} has changed: the demonstration no longer finds {edit.before.strip()!r}")
    after = before.replace(edit.before, edit.after)
    path.write_text(after, encoding="utf-8")
    name = f"{PACKAGE}/{path.name}"
    return difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, n=0, lineterm="")


def _is(edit: Edit, case: dict[str, Any]) -> bool:
    return bool(case["id"].startswith(f"{edit.kernel}-") and case["verdict"] == edit.verdict)
