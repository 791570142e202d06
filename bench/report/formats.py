"""The files that a run is written to, by format."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from ..judging.run import Run
from ..plain.files import check_writable, write_atomically
from .as_html import as_html
from .as_json import as_json
from .as_markdown import as_markdown
from .pages import check_possible
from .pairs import as_pairs

FORMATS = {"json": as_json, "markdown": as_markdown, "html": as_html, "pairs": as_pairs}

REPORTS = ("json", "markdown", "html")  # the formats that commands write


def declare(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare an option of each format for a command that reports on a run."""
    for form in REPORTS:
        parser.add_argument(f"--{form}", type=Path, metavar="PATH", help=f"write {what} as {form}")


def asked(options: argparse.Namespace) -> dict[str, Path]:
    """Return the files that the options of ``declare`` ask for, by format."""
    return {form: path for form in REPORTS if (path := getattr(options, form)) is not None}


def write_asked(run: Run, options: argparse.Namespace) -> None:
    """Write the run in the formats that were asked for."""
    for form, path in asked(options).items():
        write(form, run, path)


def write(form: str, run: Run, path: Path) -> None:
    """Write the run to path in one of ``FORMATS``, whole or not at all."""
    write_atomically(path, FORMATS[form](run))


def check(reports: Mapping[str, Path]) -> None:
    """Make sure that files can be written, by format, before the run that they will hold.

    Raises:
        CannotDo: one could not.

    """
    if "html" in reports:
        check_possible()
    for path in reports.values():
        check_writable(path)
