"""``python -m bench history``: the trends of all stored baselines as text, as one page, and as JSON."""

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from math import log
from pathlib import Path
from typing import Any

from ..plain.files import write_atomically
from ..plain.strict_json import dumps
from .page import as_html
from .steps import otava
from .trends import MIN_POINTS, History, find_steps, read
from .wording import by_whom, change, notes, steps, title

SCHEMA = 1
STORAGE = Path(".benchmarks")  # pytest-benchmark's own default


def add_command(commands: Any) -> None:
    """Declare ``history`` among the commands of the command line."""
    parser = commands.add_parser("history", help="show the trends of all stored baselines, and slow drift")
    parser.add_argument("directory", type=Path, nargs="?", default=STORAGE, help="default %(default)s")
    parser.add_argument("--html", type=Path, metavar="PATH", help="write one page of trends")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the trends and their steps as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Read the baselines, look for steps if that can be done here, write what was asked for and print a summary.

    Raises:
        CannotDo: no baseline is stored, or a file cannot be written.

    """
    history, found = read(options.directory), otava()
    if found is not None:
        history = find_steps(history, *found)
    for path, write in ((options.html, as_html), (options.json, as_json)):
        if path is not None:
            write_atomically(path, write(history))
    for line in summary(history):
        print(line)


def summary(history: History) -> Iterable[str]:
    """Say what was read, which cases step, and in which environment; all cases where no steps were looked for."""
    files = sum(len(group.files) for group in history.groups)
    yield f"history: {files} baselines, {len(history.trends)} trends; {by_whom(history)}"
    for group in history.groups:
        yield ""
        yield f"{title(group)}: {len(group.files)} baselines, {group.files[0]} to {group.files[-1]}"
        yield from (f"  {note}" for note in notes(group))
        shown = [trend for trend in group.trends if trend.steps or trend.hint or history.finder is None]
        for trend in sorted(shown, key=lambda t: -abs(log(t.last_over_first))):
            yield f"  {trend.case_id}: {change(trend)}"
            yield from (f"    {step}" for step in steps(trend))
        if history.finder is not None:
            short = sum(len(trend.points) < MIN_POINTS for trend in group.trends)
            yield f"  {len(group.trends) - len(shown) - short} steady, {short} with fewer than {MIN_POINTS} baselines"
    yield from (f"not read: {name}: {reason}" for name, reason in history.refused)


def as_json(history: History) -> str:
    """Write everything that was read and found."""
    document = {
        "schema": SCHEMA,
        "change_points": history.finder,
        "groups": [{**asdict(group), "environment": dict(group.environment)} for group in history.groups],
        "refused": dict(history.refused),
    }
    return dumps(document, indent=1, default=str)
