"""The verdicts as GitHub workflow commands, which become notes beside the code: ``--gate-annotations``."""

from collections.abc import Iterable, Mapping

from ..judging.run import Run
from ..judging.verdict import CaseResult, Verdict
from ..plain.evidence import Place
from .escaping import command_data, command_property
from .terminal import describe
from .text import counts, subject

SHOWN = 10  # GitHub shows so many notes of one level of a step
SPELLED_OUT = 3  # cases in a note


def as_annotations(run: Run, places: Mapping[str, Place]) -> list[str]:
    """Write one error for each kernel or module that fails a case, and one warning for each with undecided cases."""
    if run.exit_code == 4:
        return [_command("error", None, "gate", run.closing_line)]
    failing = [case for case in run.worst_first if case.verdict.fails]
    undecided = [case for case in run.cases if case.verdict is Verdict.INCONCLUSIVE and case not in failing]
    return [*_notes(run, "error", failing, places), *_notes(run, "warning", undecided, places)]


def _notes(run: Run, level: str, cases: Iterable[CaseResult], places: Mapping[str, Place]) -> list[str]:
    by_subject: dict[str, list[CaseResult]] = {}
    for case in cases:
        by_subject.setdefault(subject(case.id), []).append(case)
    notes = [_note(run, level, name, rows, places.get(name)) for name, rows in by_subject.items()]
    if len(notes) > SHOWN:
        rest = list(by_subject)[SHOWN - 1 :]
        notes[SHOWN - 1 :] = [_command(level, None, "gate", f"and {len(rest)} more: {', '.join(rest)}")]
    return notes


def _note(run: Run, level: str, name: str, cases: list[CaseResult], place: Place | None) -> str:
    lines = [describe(case, run.options) for case in cases[:SPELLED_OUT]]
    if len(cases) > SPELLED_OUT:
        lines.append(f"and {len(cases) - SPELLED_OUT} more cases of {name}: see the job's summary")
    lines += [f"{verdict.value}: {verdict.what_to_do}" for verdict in dict.fromkeys(case.verdict for case in cases)]
    return _command(level, place, f"{name}: {counts(cases)}", "\n".join(lines))


def _command(level: str, place: Place | None, title: str, message: str) -> str:
    where = {} if place is None else {"file": place.file, "line": str(place.line)}
    properties = ",".join(f"{name}={command_property(value)}" for name, value in {**where, "title": title}.items())
    return f"::{level} {properties}::{command_data(message)}"
