"""Tries silent faults, each by a whole run of the gate: planted in a copy of the suite, against it without the edit."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from ..sources.target import PACKAGE, SUITE
from .faults import Fault
from .runs import PYTEST, process


@dataclass(frozen=True)
class Trial:
    """What the gate said of a fault. It was caught if the run did not pass, and named the fault."""

    fault: Fault
    exit_code: int
    said: str

    @property
    def caught(self) -> bool:
        return self.exit_code in (1, 4) and self.fault.said in self.said


def attempt(fault: Fault, scratch: Path, cases: str | None = None, *, device: str = "cpu") -> Trial:
    """Plant a fault in a copy of the suite in a scratch directory, and run the gate on its cases, or on others."""
    base, head = scratch / "base", scratch / "head"
    for place, before, call, files in (
        (base, fault.base_before, fault.base_call, fault.base_files),
        (head, fault.head_before, fault.head_call, fault.head_files),
    ):
        probe = fault.kernel.format(before=before, call=indent(call, "    "))
        lay_out(SUITE / PACKAGE, place, {**files, f"{PACKAGE}/probe.py": probe})
    copy_suite(head)
    given = ("bench/", "--tier=smoke", f"--device={device}", "-k", cases or fault.cases)
    done = process(*PYTEST, *given, f"--gate-base={base}", where=head)
    return Trial(fault, done.returncode, done.stdout + done.stderr)


def lay_out(package: Path, place: Path, files: Mapping[str, str]) -> None:
    """Copy a package to a directory, and write files there by their names."""
    shutil.copytree(package, place / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    write_files(place, files)


def write_files(place: Path, files: Mapping[str, str]) -> None:
    """Write files by their names below a directory, and the folders that they are in."""
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def copy_suite(place: Path) -> None:
    """Copy the gate with its bytecode, without its documents, to a directory for a package that it will measure."""
    shutil.copytree(SUITE / "bench", place / "bench", ignore=shutil.ignore_patterns("docs"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(SUITE / name, place / name)
