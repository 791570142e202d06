"""The files that a run is written to, by format."""

import argparse
from pathlib import Path

from ..judging.run import Run
from ..plain.files import write_atomically
from .as_json import as_json
from .as_markdown import as_markdown
from .pairs import as_pairs


def _as_html(run: Run) -> str:
    from .as_html import as_html  # noqa: PLC0415  # the other reports need no jinja2

    return as_html(run)


FORMATS = {"json": as_json, "markdown": as_markdown, "html": _as_html, "pairs": as_pairs}

REPORTS = ("json", "markdown", "html")  # the formats that commands write


def declare(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare an option of each format for a command that reports on a run."""
    for form in REPORTS:
        parser.add_argument(f"--{form}", type=Path, metavar="PATH", help=f"write {what} as {form}")


def write_asked(run: Run, options: argparse.Namespace) -> None:
    """Write the run in the formats that were asked for by the options of ``declare``."""
    for form in REPORTS:
        path: Path | None = getattr(options, form)
        if path is not None:
            write(form, run, path)


def write(form: str, run: Run, path: Path) -> None:
    """Write the run to path in one of ``FORMATS``, whole or not at all."""
    write_atomically(path, FORMATS[form](run))
