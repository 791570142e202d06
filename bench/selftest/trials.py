"""Tries silent faults, each by a whole run of the gate: planted in a copy of the suite, against it without the edit."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from ..sources.target import PACKAGE
from .faults import Fault
from .runs import PYTEST, process

SUITE = ("bench", "conftest.py", "pyproject.toml")


@dataclass(frozen=True)
class Trial:
    """What the gate said of a fault. It was caught if the run did not pass, and named the fault."""

    fault: Fault
    exit_code: int
    said: str

    @property
    def caught(self) -> bool:
        return self.exit_code in (1, 4) and self.fault.said in self.said


def copy_suite(suite: Path, place: Path) -> None:
    """Copy the gate, without its documents, to a directory that will hold a package for it to measure."""
    for name in SUITE:
        if (suite / name).is_dir():
            shutil.copytree(suite / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "docs"))
        else:
            shutil.copy(suite / name, place / name)


def attempt(fault: Fault, suite: Path, scratch: Path, cases: str | None = None, *, device: str = "cpu") -> Trial:
    """Plant a fault in a copy of the suite in a scratch directory, and run the gate on its cases, or on others."""
    for label, before, call, files in (
        ("base", fault.base_before, fault.base_call, fault.base_files),
        ("head", fault.head_before, fault.head_call, fault.head_files),
    ):
        root = scratch / label
        shutil.copytree(suite / PACKAGE, root / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        text = fault.kernel.format(before=before, call=indent(call, "    "))
        for name, content in {**files, f"{PACKAGE}/probe.py": text}.items():
            (root / name).write_text(content, encoding="utf-8")
    copy_suite(suite, scratch / "head")
    given = ("bench/", "--tier=smoke", f"--device={device}", "-k", cases or fault.cases)
    done = process(*PYTEST, *given, f"--gate-base={scratch / 'base'}", where=scratch / "head")
    return Trial(fault, done.returncode, done.stdout + done.stderr)
