"""The verdicts as one page that needs no network: ``--gate-html``."""

from jinja2 import Environment, PackageLoader

from ..advice import advice
from ..verdict import Run
from .text import COLUMNS, row


def as_html(run: Run) -> str:
    """Render ``page.html``; whatever comes from a case is escaped."""
    environment = Environment(loader=PackageLoader("bench.report", "."), autoescape=True, trim_blocks=True)
    rows = [(case.verdict.value, run.policy.fails(case.verdict), row(case)) for case in run.worst_first]
    return environment.get_template("page.html").render(run=run, columns=COLUMNS, rows=rows, warnings=advice(run))
