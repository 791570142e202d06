"""The report of the study: one document of sections, written as a page and as Markdown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader

from ..plain.files import write_atomically
from . import more_tables, tables
from .figure import Plot
from .judgement import Judgement, Verdict, judge
from .plots import draw
from .published import TABLES
from .results import Results
from .tables import Table

TITLE = "The study, measured here"
MACHINE = (("cpu", ""), ("cores", " cores"), ("threads", " thread(s)"), ("torch", " (torch)"), ("gpu", ""))


@dataclass(frozen=True)
class Report:
    """What page and Markdown show: a summary, claims, tables and plots."""

    summary: str
    machine: str
    claims: Table
    tables: tuple[Table, ...]
    plots: tuple[Plot, ...]
    more: tuple[Table, ...]


def make(
    results: Results,
    devices: tuple[str, ...],
    record: Mapping[str, str | int],
    left_out: Iterable[tuple[str, str, str]] = (),
) -> Report:
    """Judge, tabulate and draw all that was found; ``left_out`` as ``left_out.rows`` gives it."""
    judgements = judge(results, devices)
    studied = [
        tables.warm_up(table, results) if table.name == "A4" else tables.of_study(table, results, devices)
        for table in TABLES
    ]
    more = (
        tables.matrix(results),
        more_tables.growth(results),
        more_tables.long_context(results),
        more_tables.directions(results),
        more_tables.errors(results),
        more_tables.faults(results),
        more_tables.left_out(left_out),
        more_tables.environment((name, str(value)) for name, value in record.items()),
    )
    return Report(
        summarise(judgements),
        describe(record),
        tables.claims(judgements),
        tuple(studied),
        tuple(draw(results, devices)),
        more,
    )


def describe(record: Mapping[str, str | int]) -> str:
    """Name the machine in a sentence; the whole record is in the last table."""
    known = [f"{record[name]}{unit}" for name, unit in MACHINE if name in record]
    return f"Measured on: {', '.join(known)}{'' if 'gpu' in record else ', no GPU'}."


def summarise(judgements: list[Judgement]) -> str:
    """Count the verdicts, first on the devices that the study names, then of what was tried on the CPU instead."""
    asked = {j.claim: j for j in reversed(judgements)}  # of two lines of a claim, the first is on the study's device
    instead = [j for j in judgements if asked[j.claim] is not j]

    def count(chosen: list[Judgement]) -> str:
        counted = {v: sum(j.verdict is v for j in chosen) for v in Verdict}
        return ", ".join(f"{v.value}: {n}" for v, n in counted.items() if n)

    text = f"Of the study's {len(asked)} claims, on the device that each is about: {count(list(asked.values()))}."
    return text + (f" Claims about a GPU, tried on this CPU: {count(instead)}." if instead else "")


def as_html(report: Report) -> str:
    """Render ``page.html``: one page that needs nothing else."""
    environment = Environment(
        loader=PackageLoader("bench.study", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(report=report, title=TITLE)


def as_markdown(report: Report, folder: str) -> str:
    """Write the report as Markdown, its plots as files in a folder beside it."""
    parts = [f"# {TITLE}", _escape(report.summary), _escape(report.machine), *_table(report.claims)]
    for table in report.tables:
        parts += _table(table)
    parts.append("## Plots")
    for plot in report.plots:
        parts += [f"![{_escape(plot.title)}]({folder}/{plot.name}.svg)", _escape(plot.caption)]
    for table in report.more:
        parts += _table(table)
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(table: Table) -> list[str]:
    lines = [table.columns, tuple("---" for _ in table.columns), *(tuple(map(_escape, row)) for row in table.rows)]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return [f"## {_escape(table.title)}", _escape(table.note), text if table.rows else "Nothing was measured."]


def _escape(text: str) -> str:
    for character in "\\*_<>|[]^~":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")


def write(report: Report, directory: Path) -> tuple[Path, Path]:
    """Write the page, the Markdown and its plots into a directory; returns the first two."""
    page, text, folder = directory / "study.html", directory / "STUDY.md", "study-plots"
    for plot in report.plots:
        write_atomically(directory / folder / f"{plot.name}.svg", plot.file)
    write_atomically(page, as_html(report))
    write_atomically(text, as_markdown(report, folder))
    return page, text
