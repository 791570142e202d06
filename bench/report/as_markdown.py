"""The verdicts as Markdown, for a job summary or a comment: ``--gate-markdown``."""

from collections.abc import Iterable

from ..advice import advice
from ..verdict import CaseResult, Run
from .text import COLUMNS, row


def as_markdown(run: Run) -> str:
    """Write the closing line, the cases that fail, and the whole table folded away."""
    failing = [case for case in run.worst_first if run.policy.fails(case.verdict)]
    parts = [f"## {_escape(run.closing_line)}", f"base: {_escape(str(run.base['origin']))}; ratio = head/base"]
    if failing:
        parts.append(_table(failing))
    parts += [f"> warning: {_escape(warning)}" for warning in advice(run)]
    summary = ", ".join(f"{n} {verdict}" for verdict, n in run.summary.items())
    parts.append(f"<details><summary>All cases: {summary}</summary>\n\n{_table(run.worst_first)}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _table(cases: Iterable[CaseResult]) -> str:
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(tuple(map(_escape, row(case))) for case in cases)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escape(text: str) -> str:
    for character in "\\`*_<>|[]":
        text = text.replace(
            character, f"\\{character}" if character not in "<>" else {"<": "&lt;", ">": "&gt;"}[character]
        )
    return text.replace("\n", " ")
