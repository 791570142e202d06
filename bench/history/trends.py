"""Stored baselines as trends: one for each case and environment, in the order of storing. Pure.

A stored time is comparable with one of the same processor, torch, thread count and allocator, and even then the machine
may have had a bad day: a trend shows slow drift to a human, the gate compares.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any

from ..plain.errors import CannotDo
from ..plain.printable import counted
from ..sources.baseline import KEY, SCHEMA

COMPARABLE = ("cpu", "gpu", "torch", "threads", "malloc")  # what times must share to be drawn as one trend
# The p-value of a step may be at most its trend's share of this. It is a hint, not an error rate: the split is chosen
# before it is tested, so in simulated noise steps are found up to a hundred times as often as p says.
LEVEL = 0.001
MIN_CHANGE = 0.02  # smaller steps are not reported: two processes on one machine differ by as much
MIN_POINTS = 6  # fewer baselines are not judged
CONFIRMING = 2  # a new level needs this many values; a single one may be the machine's bad day

Environment = tuple[tuple[str, str], ...]
# Finds where a series of times steps, at most at this p-value: index -> p-value.
Finder = Callable[[Sequence[float], float], dict[int, float]]


@dataclass(frozen=True)
class Point:
    """One stored time of one case: the median, and its quartiles."""

    when: datetime
    file: str
    commit: str  # short, with a + where the working tree was dirty; empty if unknown
    ns_per_call: float
    low_ns: float
    high_ns: float


@dataclass(frozen=True)
class LevelStep:
    """A change of level at point ``index``; ``before_ns`` and ``after_ns`` are medians between neighbouring steps."""

    index: int
    before_ns: float
    after_ns: float
    pvalue: float
    end: int  # the next step's index, or the number of points

    @property
    def ratio(self) -> float:
        return self.after_ns / self.before_ns


@dataclass(frozen=True)
class Trend:
    """All stored times of one case in one environment; ``steps`` is None if no steps were looked for.

    ``hint`` is a step at the last stored time, which no second time confirms yet.
    """

    case_id: str
    points: tuple[Point, ...]
    steps: tuple[LevelStep, ...] | None = None
    hint: LevelStep | None = None

    @property
    def net_ratio(self) -> float:
        """The last level over the first one; above 1 the case became slower."""
        return self.steps[-1].after_ns / self.steps[0].before_ns if self.steps else 1.0

    @property
    def last_over_first(self) -> float:
        return self.points[-1].ns_per_call / self.points[0].ns_per_call


@dataclass(frozen=True)
class Group:
    """The trends of one environment, and the files that they come from, the oldest first."""

    environment: Environment
    files: tuple[str, ...]
    trends: tuple[Trend, ...]

    @property
    def shared_steps(self) -> list[tuple[str, int, int]]:
        """The files at which at least half of three or more cases step: (file, cases that do, cases judged).

        A single edit seldom changes so many cases; the machine may have changed.
        """
        judged = [trend for trend in self.trends if trend.steps is not None]
        at = [{trend.points[step.index].file for step in trend.steps or ()} for trend in judged]
        counts = [(file, sum(file in files for files in at), len(judged)) for file in self.files]
        return [row for row in counts if row[2] >= 3 and 2 * row[1] >= row[2]]


@dataclass(frozen=True)
class History:
    """The baselines that were read, in groups, the largest first; and the files that were not, each with the reason."""

    groups: tuple[Group, ...]
    refused: tuple[tuple[str, str], ...] = ()
    finder: str | None = None  # what looked for steps

    @property
    def trends(self) -> list[Trend]:
        return [trend for group in self.groups for trend in group.trends]


def read(directory: Path) -> History:
    """Read every baseline below a directory; a file that is not one is refused, with the reason.

    Raises:
        CannotDo: there is no baseline.

    """
    read_files, refused = [], []
    for path in sorted(directory.rglob("*.json")):
        try:
            read_files.append(_stored(path))
        except (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = str(error) if isinstance(error, _NoBaselineError) else f"damaged ({type(error).__name__}: {error})"
            refused.append((str(path.relative_to(directory)), reason))
    if not read_files:
        count = counted(len(refused), "file")
        others = f" ({count} refused; the first, {refused[0][0]}: {refused[0][1]})" if refused else ""
        raise CannotDo(
            f"no baseline is stored in {directory}{others}: store some with --benchmark-save=NAME, or name the "
            "directory that holds them"
        )
    environments = {environment for environment, _ in read_files}
    groups = [_group(e, [times for other, times in read_files if other == e]) for e in environments]
    groups.sort(key=lambda group: (-len(group.files), group.environment))
    return History(tuple(groups), tuple(refused))


def find_steps(history: History, name: str, find: Finder) -> History:
    """Look for steps in every trend that is long enough; ``name`` is that of the finder."""
    judged = sum(len(trend.points) >= MIN_POINTS for trend in history.trends)

    def searched(trend: Trend) -> Trend:
        if len(trend.points) < MIN_POINTS:
            return trend
        values = [point.ns_per_call for point in trend.points]
        found, hint = find(values, LEVEL / judged), None
        while doubtful := [step for step in _steps(values, found) if not _agreed(values, step)]:
            hint = doubtful[0] if doubtful[0].end == len(values) else hint
            del found[doubtful[0].index]
        return replace(trend, steps=tuple(_steps(values, found)), hint=hint)

    groups = (replace(group, trends=tuple(map(searched, group.trends))) for group in history.groups)
    return replace(history, groups=tuple(groups), finder=name)


def _steps(values: Sequence[float], found: Mapping[int, float]) -> list[LevelStep]:
    """Make a step of each index and p-value that was found."""
    bounds = [0, *sorted(found), len(values)]
    levels = [median(values[start:end]) for start, end in pairwise(bounds)]
    return [
        LevelStep(start, before, after, found[start], end)
        for (start, end), (before, after) in zip(pairwise(bounds[1:]), pairwise(levels), strict=True)
    ]


def _agreed(values: Sequence[float], step: LevelStep) -> bool:
    """Whether at least two values are nearer to the new level than to the old one, and the levels differ."""
    nearer = sum(abs(value - step.after_ns) < abs(value - step.before_ns) for value in values[step.index : step.end])
    return nearer >= CONFIRMING and abs(step.ratio - 1) >= MIN_CHANGE


class _NoBaselineError(ValueError):
    """The file is readable, but not a baseline."""


def _stored(path: Path) -> tuple[Environment, list[tuple[str, Point]]]:
    if not path.is_file():  # reading a pipe would never end
        raise _NoBaselineError("not a regular file")
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        raise _NoBaselineError("not stored by pytest-benchmark")
    environment = _environment(document)
    when = datetime.fromisoformat(document["datetime"])
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    info = document.get("commit_info") or {}
    commit = f"{str(info.get('id') or '')[:7]}{'+' if info.get('dirty') else ''}"
    times = []
    for benchmark in document["benchmarks"]:
        middle, low, high = (1e9 * float(benchmark["stats"][name]) for name in ("median", "q1", "q3"))
        if not all(isfinite(ns) and ns > 0 for ns in (middle, low, high)):
            raise ValueError(f"{benchmark['name']} has a time that is not a positive number")
        case_id = str(benchmark["extra_info"].get("case") or benchmark["fullname"])
        times.append((case_id, Point(when, path.name, commit, middle, low, high)))
    if not times:
        raise _NoBaselineError("holds no times")
    return environment, times


def _environment(document: Mapping[str, Any]) -> Environment:
    """Return the facts that comparable times share, as the suite stored them, or else pytest-benchmark."""
    part = document.get(KEY)
    if part is None:
        machine = document["machine_info"]
        cpu = machine["cpu"].get("brand_raw") or machine.get("processor") or "unknown"
        return (("cpu", str(cpu)), ("python", str(machine["python_version"])))
    if part.get("schema") != SCHEMA:
        raise _NoBaselineError(f"has schema {part.get('schema')!r}, this version reads {SCHEMA}")
    return tuple((name, str(part["environment"][name])) for name in COMPARABLE if name in part["environment"])


def _group(environment: Environment, stored: Sequence[Sequence[tuple[str, Point]]]) -> Group:
    in_order = sorted(stored, key=lambda times: (times[0][1].when, times[0][1].file))
    by_case: dict[str, list[Point]] = defaultdict(list)
    for times in in_order:
        for case_id, point in times:
            by_case[case_id].append(point)
    trends = (Trend(case_id, tuple(points)) for case_id, points in by_case.items())
    return Group(environment, tuple(times[0][1].file for times in in_order), tuple(trends))
