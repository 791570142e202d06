"""Reports of a run: terminal, JSON, Markdown, HTML. They show what the verdict says and decide nothing."""

from pathlib import Path

from ..files import write_atomically
from ..recording import as_pairs
from ..verdict import Run
from .annotations import as_annotations
from .as_json import as_json
from .as_markdown import as_markdown
from .from_json import from_json
from .terminal import describe, write_table


def _as_html(run: Run) -> str:
    from .as_html import as_html  # noqa: PLC0415  # the other reports, and who reads them back, need no jinja2

    return as_html(run)


FORMATS = {"json": as_json, "markdown": as_markdown, "html": _as_html, "pairs": as_pairs}


def write(form: str, run: Run, path: Path) -> None:
    """Write the run to path in one of ``FORMATS``, whole or not at all."""
    write_atomically(path, FORMATS[form](run))


__all__ = ["FORMATS", "as_annotations", "describe", "from_json", "write", "write_table"]
