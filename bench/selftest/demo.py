"""``demo``: plants a slowdown and a wrong number in copies of two packages, and runs the gate on each.

One is a package that has nothing to do with attention, Jinja, with benchmarks of its own; the other is this suite.
"""

import argparse
import difflib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join
from typing import Any

import jinja2

from ..plain.errors import CannotDo
from ..plain.files import check_writable
from ..sources.target import PACKAGE, SUITE
from .runs import PLUGIN
from .trials import copy_suite, lay_out

BEFORE = "../before"  # the package without the edits, beside the copy
BRIEFLY = ("-q", "--tb=no", "-rN")  # the table says what the text of each failure says


@dataclass(frozen=True)
class Edit:
    """An edit that a reviewer could overlook: ``verdict`` is what a case must get whose id begins with ``case``."""

    why: str
    file: str
    before: str
    after: str
    case: str
    verdict: str


@dataclass(frozen=True)
class Scene:
    """A package, where it lies, the files that are beside it, the edits, and how the gate is run."""

    title: str
    package: Path
    edits: tuple[Edit, ...]
    arguments: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    loading: tuple[str, ...] = ()  # of the plugin, where it is not installed


BENCHMARKS = """
import jinja2

TITLES = jinja2.Template("{% for n in range(200) %}{{ text|title }}{% endfor %}")
SIZES = jinja2.Template("{% for n in range(200) %}{{ (n * 1000)|filesizeformat }}{% endfor %}")


def test_titles(benchmark):
    benchmark(TITLES.render, text="the same old title")


def test_sizes(benchmark):
    benchmark(SIZES.render)
"""
OTHER = Scene(
    "In a copy of Jinja, with a file of two benchmarks",
    Path(jinja2.__file__).parent,
    (
        Edit(
            "title: the pattern by its text. Right, but it is looked up at each call",
            "jinja2/filters.py",
            "_word_beginning_split_re.split(soft_str(s))",
            "re.split(_word_beginning_split_re.pattern, soft_str(s))",
            "benchmarks/test_templates.py::test_titles",
            "REGRESSED",
        ),
        Edit(
            "filesizeformat: one base for all. Simpler, and wrong by 2.4% for each step",
            "jinja2/filters.py",
            "base = 1024 if binary else 1000",
            "base = 1024",
            "benchmarks/test_templates.py::test_sizes",
            "DRIFTED",
        ),
    ),
    ("benchmarks/",),
    {"benchmarks/test_templates.py": BENCHMARKS, "conftest.py": "", "pyproject.toml": "[tool.pytest.ini_options]\n"},
    ("-p", PLUGIN),
)
OURS = Scene(
    "In a copy of this suite",
    SUITE / PACKAGE,
    (
        Edit(
            "masked: subtract the largest score once more, for stability. Right, but softmax does so already",
            "attention/masked.py",
            "    if mask is None and visible is None:\n",
            "    scores = scores - scores.amax(dim=-1, keepdim=True)\n    if mask is None and visible is None:\n",
            "masked-",
            "REGRESSED",
        ),
        Edit(
            "manual: round the scale. Easier to read, and wrong by 2%",
            "attention/manual.py",
            "scale = q.shape[-1] ** -0.5",
            "scale = round(q.shape[-1] ** -0.5, 2)",
            "manual-",
            "DRIFTED",
        ),
    ),
    ("bench/", "--tier=smoke", "-k", "(manual- or masked- or sdpa-) and (b1h4t64d32- or b1h8t1k256d64-)"),
)


def add_command(commands: Any) -> None:
    """Declare ``demo`` among the commands of the command line."""
    parser = commands.add_parser("demo", help="plant slowdowns and wrong numbers in copies; the gate catches them")
    parser.add_argument("--html", type=Path, metavar="PATH", help="write the report page of the suite's failing run")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show the edits, run the gate on them, and say what it caught; returns 0 if it caught all of them, else 1.

    Raises:
        CannotDo: a file no longer holds the text to edit, the page cannot be written, or the gate did not compare.

    """
    start = time.monotonic()
    if options.html is not None:
        check_writable(options.html)
    pages = [] if options.html is None else [f"--gate-html={options.html.absolute()}"]
    caught = [*play(OTHER, []), *play(OURS, pages)]
    seconds = time.monotonic() - start
    print(f"\ncaught: {sum(caught)} of {len(caught)} edits, in {seconds:.0f} s; your own files are as they were")
    return 0 if all(caught) else 1


def play(scene: Scene, more: Sequence[str]) -> list[bool]:
    """Plant the edits of a scene in a copy, run the gate, and return for each whether it was caught.

    Raises:
        CannotDo: the gate did not compare.

    """
    with tempfile.TemporaryDirectory() as scratch:
        copy, results = Path(scratch, "copy"), Path(scratch, "gate.json")
        lay_out(scene.package, copy, scene.files)
        lay_out(scene.package, copy / BEFORE, {})
        if scene is OURS:
            copy_suite(copy)
        print(f"{scene.title}, two edits:\n")
        for edit in scene.edits:
            print(f"# {edit.why}", *plant(edit, copy), sep="\n")
        pytest = ["pytest", *scene.arguments, f"--gate-base={BEFORE}"]
        print(f"\n$ {join(pytest)}\n", flush=True)
        command = [sys.executable, "-m", *pytest, *scene.loading, f"--gate-json={results}", *BRIEFLY, *more]
        environment = {**os.environ, "PYTHONPATH": str(SUITE)} if scene.loading else None
        exit_code = subprocess.run(command, cwd=copy, env=environment, check=False).returncode
        print()
        if not results.is_file():
            raise CannotDo(f"the gate made no comparison (exit code {exit_code}): the lines above say why")
        cases = json.loads(results.read_text(encoding="utf-8"))["cases"]
    return [exit_code == 1 and any(_is(edit, case) for case in cases) for edit in scene.edits]


def plant(edit: Edit, copy: Path) -> Iterator[str]:
    """Edit a file in a copy; returns the lines that differ.

    Raises:
        CannotDo: the file does not hold the text exactly once.

    """
    path = copy / edit.file
    before = path.read_text(encoding="utf-8")
    if before.count(edit.before) != 1:
        raise CannotDo(f"{edit.file} has changed: the demonstration no longer finds {edit.before.strip()!r}")
    after = before.replace(edit.before, edit.after)
    path.write_text(after, encoding="utf-8")
    return difflib.unified_diff(before.splitlines(), after.splitlines(), edit.file, edit.file, n=0, lineterm="")


def _is(edit: Edit, case: dict[str, Any]) -> bool:
    return bool(case["id"].startswith(edit.case) and case["verdict"] == edit.verdict)
