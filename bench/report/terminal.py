"""The terminal's report: a header, one table with the worst first, and the text of a failed case."""

from collections.abc import Sequence
from typing import Protocol

from ..judging.advice import advice
from ..judging.roofline import summary
from ..judging.run import Run
from ..judging.verdict import CaseResult, Verdict
from ..plain.printable import readable
from .flops import rates
from .reproduce import commands
from .text import COLUMNS, legend, row, rows_of

COLOURS = {"fail": {"red": True}, "doubt": {"yellow": True}, "gain": {"green": True}, "new": {"cyan": True}}
_RIGHT = ("ratio", "base", "head", "pairs", "error")


class Terminal(Protocol):
    """The part of pytest's terminal reporter that is used; it drops the colour where there is none."""

    def section(self, title: str, sep: str = ..., **markup: bool) -> None: ...

    def write_line(self, line: str, **markup: bool) -> None: ...


def describe(case: CaseResult, options: Sequence[str]) -> str:
    """Say what failed a case: verdict, ratio where there is one, every reason with all of its lines, what to run.

    The bar before each line keeps a kernel's own text from being read as a command by GitHub Actions.
    """
    ratio = "" if case.ratio is None else f", head/base {row(case)[2]}, {row(case)[3]}"
    reasons = (readable(reason).replace("\n", "\n  | ") for reason in case.reasons)
    lines = [*reasons, *(f"to {what} it: {command}" for what, command in commands(case, options).items())]
    return "\n".join([f"{case.id}: {case.verdict.value}{ratio}", *(f"  {line}" for line in lines)])


def write_table(run: Run, terminal: Terminal) -> None:
    """Write every case, the worst first, skipped cases by their reasons, and what was compared with what."""
    terminal.section("regression gate", sep="=")
    compared = [case.brief for case in run.worst_first if case.verdict is not Verdict.SKIPPED]
    rows = [(Verdict(cells[1]), cells) for case in compared for cells in rows_of(case)]
    widths = [max([len(name), *(len(cells[i]) for _, cells in rows)]) for i, name in enumerate(COLUMNS[:-1])]

    def line(cells: tuple[str, ...]) -> str:
        aligned = [
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(COLUMNS, cells, widths, strict=False)
        ]
        return "  ".join([*aligned, cells[-1]]).rstrip()

    terminal.write_line(line(COLUMNS), bold=True)
    for verdict, cells in rows:
        terminal.write_line(line(cells), **COLOURS.get(verdict.tone, {}))
    skipped: dict[str, list[str]] = {}
    for case in run.cases:
        if case.verdict is Verdict.SKIPPED:
            skipped.setdefault("; ".join(case.brief.reasons), []).append(case.id)
    for reason, ids in skipped.items():
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        terminal.write_line(f"SKIPPED {ids[0]}{more}: {reason}", light=True)
    for rate in rates(run.cases, run.ceilings):
        name, base, head, share, published = rate.cells
        beside = "" if published == "-" else f"; published, {published}"
        terminal.write_line(f"{name}: {base} -> {head} TFLOP/s, {share} of the measured peak{beside}")
    ceiling = summary([(case.work, case.head_ns) for case in run.cases], run.ceilings)
    if ceiling is not None:
        terminal.write_line(ceiling)
    for warning in advice(run):
        terminal.write_line(f"warning: {warning}", yellow=True)
    same = " (identical source)" if run.base.get("source_sha256") == run.head.get("source_sha256") else ""
    terminal.write_line(f"base: {run.base['origin']}, head: {run.head['origin']}{same}; {legend(run.policy)}")
