"""``peers``: this gate beside others, on one suite in the same hour: false alarms, slowdowns caught, and seconds.

Each tool gets the same four functions in the form that it takes, from two folders whose code is the same or differs by
a slowdown of known size. The tools are installed into environments of their own, below the folder that is named.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from ..plain.arguments import COUNT
from ..plain.errors import CannotDo
from ..plain.printable import table
from ..sources.target import SUITE
from .runs import environment_without, process, stock_fails
from .trials import write_files

SLOWDOWNS = (0.05, 0.10, 0.20)
FUNCTIONS = {
    "add": "sum(range(times(2000)))",
    "join": "','.join(map(str, range(times(500))))",
    "table": "{i: i * i for i in range(times(500))}",
    "order": "sorted(range(times(1000), 0, -1), key=abs)",
}
WORK = "EXTRA = {extra}\n\ndef times(n):\n    return int(n * (1 + EXTRA))\n"
COPY = "import shutil, sysconfig; shutil.copy(r'{build_dir}/work.py', sysconfig.get_path('purelib'))"
INSTALL = f'in-dir={{env_dir}} python -c "{COPY}"'
ASV = {
    "version": 1,
    "project": "work",
    "repo": ".",
    "branches": ["main"],
    "environment_type": "virtualenv",
    "build_command": [],
    "uninstall_command": [],
    "install_command": [INSTALL],
}


def add_command(commands: Any) -> None:
    """Declare ``peers`` among the commands of the command line."""
    parser = commands.add_parser("peers", help="this gate beside others, on one suite in the same hour")
    parser.add_argument("folder", type=Path, help="where environments and results go; it takes 300 MB")
    COUNT.declare(parser, "--runs", "5", "runs of unchanged code, and of each slowdown")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Tool:
    """A tool: what pip installs, and whether it fails the head's folder against the base's."""

    requirements: tuple[str, ...]
    fails: Callable[[Path, Path, Path], bool]  # of its python, the base's folder and the head's


@dataclass
class Found:
    """What a tool said: failed or not, by the slowdown, and the seconds of each run."""

    failed: dict[float, list[bool]] = field(default_factory=lambda: defaultdict(list))
    seconds: list[float] = field(default_factory=list)


def run(options: argparse.Namespace) -> None:
    """Run every tool on unchanged code and on slowdowns in turn, and print the table.

    Raises:
        CannotDo: a tool cannot be installed.

    """
    folder = options.folder.resolve()
    pythons = {name: _python(folder / "environments" / str(i), tool) for i, (name, tool) in enumerate(TOOLS.items())}
    found = {name: Found() for name in TOOLS}
    shares = [share for _ in range(options.runs) for share in (0.0, *SLOWDOWNS)]
    for number, share in enumerate(tqdm(shares, unit="round", file=sys.stderr)):
        for name, tool in TOOLS.items():
            place = folder / "rounds" / f"{number}-{len(name)}-{share:g}"
            base, head = _write(place, 0.0, share)
            start = time.monotonic()
            found[name].failed[share].append(tool.fails(pythons[name], base, head))
            found[name].seconds.append(time.monotonic() - start)
    print("\n".join(_table(found)))


def _table(found: dict[str, Found]) -> list[str]:
    columns = ["", "unchanged, failed", *(f"{100 * share:g}% slower, failed" for share in SLOWDOWNS), "seconds"]
    rows = []
    for name, one in found.items():
        counts = [f"{sum(runs)} of {len(runs)}" for runs in (one.failed[share] for share in (0.0, *SLOWDOWNS))]
        rows.append([name, *counts, f"{median(one.seconds):.0f}"])
    return table(columns, rows)


def _write(place: Path, *extras: float) -> tuple[Path, Path]:
    """Write the suite with each amount of extra work, base and head."""
    functions = "".join(f"\ndef {name}():\n    {body}\n" for name, body in FUNCTIONS.items())
    tests = "".join(f"\ndef test_{name}(benchmark):\n    benchmark(work.{name})\n" for name in FUNCTIONS)
    timed = "".join(f"\ndef time_{name}():\n    work.{name}()\n" for name in FUNCTIONS)
    calls = "".join(f"'{name}': lambda _: work.{name}(), " for name in FUNCTIONS)
    matrix = (
        "import work\nfrom benchmatrix import BenchmarkCase, make_benchmark_test\n\n"
        "case = BenchmarkCase.from_values('all', 0, work_units=1, work_unit_name='call')\n"
        f"test_work = make_benchmark_test({{{calls}}}, [case], metrics=['single_call_latency'])\n"
    )
    files = {
        "test_work.py": f"import work\n{tests}",
        "test_matrix.py": matrix,
        "benchmarks/__init__.py": "",
        "benchmarks/bench_work.py": f"import work\n{timed}",
        "asv.conf.json": json.dumps(ASV),
        "pytest.ini": "[pytest]\n",
        "conftest.py": "",
    }
    folders = []
    for name, extra in zip(("base", "head"), extras, strict=True):
        write_files(place / name, {**files, "work.py": WORK.format(extra=extra) + functions})
        folders.append(place / name)
    return folders[0], folders[1]


def _python(place: Path, tool: Tool) -> Path:
    python = place / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        done = _run(place, python, "-m", "pip", "install", "--quiet", *tool.requirements)
        if done.returncode != 0:
            raise CannotDo(f"{' '.join(tool.requirements)} cannot be installed ({done.stderr.strip()[-200:]})")
    return python


def _run(where: Path, *command: str | Path) -> "subprocess.CompletedProcess[str]":
    environment = environment_without("PYTEST_", "PYTHON")
    environment["PATH"] = f"{Path(command[0]).parent}{os.pathsep}{environment['PATH']}"
    return process(*command, where=where, environment=environment)


def _this(python: Path, base: Path, head: Path) -> bool:
    return _run(head, python, "-m", "pytest", "-q", "test_work.py", f"--gate-base={base}").returncode != 0


def _stock(python: Path, base: Path, head: Path) -> bool:
    times = []
    for side in (base, head):
        _run(side, python, "-m", "pytest", "-q", "test_work.py", "--benchmark-json=times.json")
        times.append(json.loads((side / "times.json").read_text(encoding="utf-8"))["benchmarks"])
    return stock_fails("min:10%", *times)


def _matrix(python: Path, base: Path, head: Path) -> bool:
    pairs, command = head.parent / "pairs", ("python", "-m", "pytest", "--benchmark-only", "-q", "test_matrix.py")
    tool = python.parent / "benchmatrix"
    places = ("--output", str(pairs), "--baseline-cwd", str(base), "--candidate-cwd", str(head))
    _run(head, tool, "collect-paired", *places, "--", *command, ":::", *command)
    return _run(head, tool, "compare", str(pairs), "--paired", "--summary", "--fail-on-regression").returncode != 0


def _codspeed(python: Path, base: Path, head: Path) -> bool:
    """Hold its medians to 10%: it stores results and compares none where there is no network."""
    medians: list[dict[str, float]] = []
    for side in (base, head):
        _run(side, python, "-m", "pytest", "-q", "test_work.py", "--codspeed", "--codspeed-mode=walltime")
        (results,) = (side / ".codspeed").glob("results_*.json")
        benchmarks = json.loads(results.read_text(encoding="utf-8"))["benchmarks"]
        medians.append({one["name"]: one["stats"]["median_ns"] for one in benchmarks})
    return any(medians[1][name] > 1.1 * ns for name, ns in medians[0].items())


def _asv(python: Path, base: Path, head: Path) -> bool:
    """Compare two commits of one repository, in an environment that is made once."""
    identity = ("-c", "user.name=peers", "-c", "user.email=peers@example.org")
    _run(base, "git", "init", "--quiet", "--initial-branch=main")
    for tag, side in (("base", base), ("head", head)):
        base.joinpath("work.py").write_bytes(side.joinpath("work.py").read_bytes())
        _run(base, "git", *identity, "add", "work.py", "asv.conf.json", "benchmarks")
        _run(base, "git", *identity, "commit", "--quiet", "--allow-empty", "--message", tag)
        _run(base, "git", "tag", tag)
    asv = python.parent / "asv"
    _run(base, asv, "machine", "--yes")
    return _run(base, asv, "continuous", "--factor", "1.1", "base", "head").returncode != 0


PYTEST = "pytest==9.2.0"
STOCK = (PYTEST, "pytest-benchmark==5.3.1")
TOOLS = {
    "this gate, at 5%": Tool((*STOCK, str(SUITE)), _this),
    "pytest-benchmark 5.3.1, `min:10%`": Tool(STOCK, _stock),
    "benchmatrix 1.2.1, `collect-paired`, at 5%": Tool((PYTEST, "benchmatrix==1.2.1"), _matrix),
    "pytest-codspeed 5.0.4, walltime, medians at 10%": Tool((PYTEST, "pytest-codspeed==5.0.4"), _codspeed),
    "asv 0.6.6, `continuous`, at 10%": Tool((PYTEST, "asv==0.6.6", "virtualenv==21.15.11"), _asv),
}
