"""The verdicts as short Markdown for a job summary or a comment: ``--gate-markdown``."""

import re
from collections.abc import Sequence
from dataclasses import replace

from ..judging.advice import advice
from ..judging.run import Run
from ..judging.verdict import CaseResult, Verdict
from ..plain.printable import counted, table, table_row
from .escaping import clip, markdown
from .flops import COLUMNS as FLOPS_COLUMNS
from .flops import rates
from .reproduce import commands
from .speed import COLUMNS as SPEED_COLUMNS
from .speed import speeds
from .text import COLUMNS, counts, legend, rows_of, subject

SUMMARY_BYTES = 1024 * 1024  # GitHub's limit for the summary of one step
FEW = 20  # rows of the table above the fold
NAMED = 10  # kernels and modules named in the first lines
REPEATED = 6  # commands to reproduce and explain
WARNED = 8  # warnings; a merged run has those of all its shards
CELL = 300  # characters of a cell; the JSON has all of it
QUIET = ("pass", "new", "skip")  # tones that the table above the fold leaves out
_GLANCE = tuple(COLUMNS.index(name) for name in ("case", "verdict", "ratio", "base", "head", "why"))
_FOLDED_RATES = "<details><summary>TFLOP/s of {} on a GPU</summary>\n\n{}\n\n</details>"
_FOLDED = "<details><summary>All {} cases: {}</summary>\n\n{}\n\n</details>"


def as_markdown(run: Run, limit_bytes: int = SUMMARY_BYTES) -> str:
    """Write the verdict, the cases that matter, what to do, and the whole table folded away, in so many bytes of UTF-8.

    Rows that do not fit are left out, the best first; the text says how many, and where they can be read.
    """
    mattering = [case for case in run.worst_first if case.verdict.tone not in QUIET]
    failing = [case for case in mattering if case.verdict.fails]
    parts = [f"## Regression gate: {run.word}, {run.sentence}"]
    if failing:
        parts.append(_culprits(failing))
    if mattering:
        few = [replace(case, reasons=case.reasons[:2]) for case in mattering[:FEW]]
        parts.append(_table(few, _GLANCE, limit_bytes // 3))
    if len(mattering) > FEW:
        parts.append(f"{len(mattering) - FEW} more of them are in the table of all cases.")
    if rows := [speed.cells for speed in speeds(run.cases)]:
        parts.append(f"**Speed as a whole** (head/base is the geometric mean)\n\n{_speed_table(rows)}")
    if reached := [rate.cells for rate in rates(run.cases, run.ceilings)]:
        parts.append(_FOLDED_RATES.format(counted(len(reached), "case"), _lines(FLOPS_COLUMNS, reached)))
    if again := [line for case in failing for line in commands(case, run.options).values()]:
        parts.append(
            f"**To reproduce and explain{' the worst' if len(failing) > 1 else ''}**\n\n{_shell(again[:REPEATED])}"
        )
    if todo := [f"- **{name}**: {step}" for name in run.summary if (step := Verdict(name).what_to_do)]:
        parts.append("\n".join(["**What to do**", "", *todo]))
    warnings = advice(run)
    parts += [f"> **Warning:** {_cell(warning)}" for warning in warnings[:WARNED]]
    if len(warnings) > WARNED:
        parts.append(f"{len(warnings) - WARNED} more warnings are in the JSON and HTML reports.")
    parts.append(f"<sub>{_cell(_setting(run), 2 * CELL)}</sub>")
    above, frame = "\n\n".join(parts), _FOLDED.format(len(run.cases), counts(run.cases), "")
    room = limit_bytes - _size(above) - _size(frame) - len("\n\n\n")
    table = _table(run.worst_first, range(len(COLUMNS)), room)
    return f"{above}\n\n{_FOLDED.format(len(run.cases), counts(run.cases), table)}\n"


def _culprits(failing: Sequence[CaseResult]) -> str:
    """Name the kernels and modules that fail, the one with the worst case first."""
    names = list(dict.fromkeys(subject(case.id) for case in failing))
    told = [
        f"<b>{_cell(name, 80)}</b> ({counts(case for case in failing if subject(case.id) == name)})"
        for name in names[:NAMED]
    ]
    return ", ".join(told) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _shell(lines: Sequence[str]) -> str:
    """Write commands as a code block, with a fence that is longer than any inside."""
    longest = max((len(run) for run in re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}sh", *lines, fence])


def _setting(run: Run) -> str:
    """Say what was compared, where, and how the figures are to be read."""
    machine = ", ".join(f"{name} {value}" for name, value in run.environment.items())
    return f"base: {run.base.get('origin')}, head: {run.head.get('origin')}; {legend(run.policy)}; {machine}"


def _table(cases: Sequence[CaseResult], columns: Sequence[int], room_bytes: int) -> str:
    """Write as many rows as there is room for, and say how many are left out."""
    lines = table([COLUMNS[i] for i in columns])
    left_out = "\n\nLeft out for their size: {}. The JSON and HTML reports have all."
    used = sum(_size(line) + 1 for line in lines) + _size(left_out.format(counted(len(cases), "row")))
    for done, case in enumerate(cases):
        added = [table_row([_cell(cells[i]) for i in columns]) for cells in rows_of(case)]
        used += sum(_size(line) + 1 for line in added)
        if used > room_bytes:
            return "\n".join(lines) + left_out.format(counted(len(cases) - done, "row"))
        lines += added
    return "\n".join(lines)


def _speed_table(rows: Sequence[Sequence[str]]) -> str:
    """Write what a change did to speed; the kernels that do not fit are counted."""
    shown = [*rows[: NAMED - 1], rows[-1]] if len(rows) > NAMED else rows
    more = f"\n\n{len(rows) - len(shown)} more kernels are in the HTML report." if len(rows) > len(shown) else ""
    return _lines(SPEED_COLUMNS, shown) + more


def _lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table of short cells."""
    return "\n".join(table(columns, ([_cell(cell, 120) for cell in cells] for cells in rows)))


def _cell(text: str, length: int = CELL) -> str:
    return markdown(clip(text, length))


def _size(text: str) -> int:
    return len(text.encode())
