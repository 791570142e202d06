"""The report of the study: one document of tables and plots, written as a page and as Markdown."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader

from ..plain import printable
from ..plain.files import write_atomically
from . import tables
from .judgement import ClaimVerdict, Judgement, judge
from .plots import Plot, draw
from .published import FAULTS, LEFT_OUT, MORE, TABLES, Table
from .results import Results

TITLE = "The study, measured here"
PAGE, TEXT, PLOTS = "study.html", "STUDY.md", "study-plots"  # what is written
MACHINE = (("cpu", ""), ("cores", " cores"), ("threads", " thread(s)"), ("torch", " (torch)"), ("gpu", ""))


@dataclass(frozen=True)
class Report:
    """What page and Markdown show, in this order; ``tables`` are of the study, ``more`` of what it left out."""

    summary: str
    machine: str
    tables: tuple[Table, ...]
    plots: tuple[Plot, ...]
    more: tuple[Table, ...]


def make(results: Results, devices: Sequence[str], record: Mapping[str, str | int]) -> Report:
    """Judge, tabulate and draw all that was found; ``record`` is of the environment."""
    judgements = judge(results, devices)
    studied, more = ([tables.fill(n, t, results, devices) for n, t in part.items()] for part in (TABLES, MORE))
    environment = Table("Environment", "", ("what", "value"), tuple((name, str(v)) for name, v in record.items()))
    return Report(
        summarise(judgements),
        describe(record),
        (tables.claims(judgements), *studied),
        tuple(draw(results, devices)),
        (*more, FAULTS, LEFT_OUT, environment),
    )


def describe(record: Mapping[str, str | int]) -> str:
    """Name the machine in a sentence; the whole record is in the last table."""
    known = [f"{record[name]}{unit}" for name, unit in MACHINE if name in record]
    return f"Measured on: {', '.join(known)}{'' if 'gpu' in record else ', no GPU'}."


def summarise(judgements: Sequence[Judgement]) -> str:
    """Count the verdicts, first on the devices that the study names, then of what was tried on the CPU instead."""
    asked = {j.claim: j for j in reversed(judgements)}  # of two lines of a claim, the first is on the study's device
    instead = [j.verdict for j in judgements if asked[j.claim] is not j]
    text = f"Of the study's {len(asked)} claims, on the device that each is about: "
    text += f"{_count([j.verdict for j in asked.values()])}."
    return text + (f" Claims about a GPU, tried on this CPU: {_count(instead)}." if instead else "")


def _count(verdicts: Sequence[ClaimVerdict]) -> str:
    return ", ".join(f"{v.value}: {verdicts.count(v)}" for v in ClaimVerdict if v in verdicts)


def as_html(report: Report) -> str:
    """Render ``page.html``: one page that needs nothing else."""
    environment = Environment(
        loader=PackageLoader("bench.study", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(report=report, title=TITLE)


def as_markdown(report: Report) -> str:
    """Write the report as Markdown, its plots as files in a folder beside it."""
    parts = [f"# {TITLE}", escape(report.summary), escape(report.machine), *map(_table, report.tables), "## Plots"]
    for plot in report.plots:
        parts += [f"![{escape(plot.title)}]({PLOTS}/{plot.name}.svg)", escape(plot.caption)]
    return "\n\n".join([*parts, *map(_table, report.more)]) + "\n"


def _table(table: Table) -> str:
    rows = printable.table(table.columns, ([escape(cell) for cell in row] for row in table.rows))
    text = "\n".join(rows) if table.rows else "Nothing was measured."
    return "\n\n".join(filter(None, (f"## {escape(table.title)}", escape(table.note), text)))


def escape(text: str) -> str:
    """Write text for Markdown, inside of a line."""
    return re.sub(r"([\\*_<>|[\]^~])", r"\\\1", text).replace("\n", " ")


def write(report: Report, directory: Path) -> None:
    """Write the page, the Markdown and its plots into a directory."""
    for plot in report.plots:
        write_atomically(directory / PLOTS / f"{plot.name}.svg", plot.file)
    write_atomically(directory / PAGE, as_html(report))
    write_atomically(directory / TEXT, as_markdown(report))
