"""The trends of all cases as a page of small plots that needs no network. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from ..report.pages import render
from ..report.text import duration
from .trends import MIN_CHANGE, MIN_POINTS, Group, History, Trend
from .wording import by_whom, change, notes, steps, title

WIDTH, HEIGHT = 320, 96
LEFT, RIGHT, TOP, BOTTOM = 6, 6, 8, 8  # margins inside the plot
MIN_SPAN = 0.1  # the plot spans at least this share of the time, so that noise looks like noise

TONES = {"SLOWER": "fail", "FASTER": "gain", "STEADY": "pass", "NOT JUDGED": "skip"}


@dataclass(frozen=True)
class Dot:
    """One stored time in the plot, and what it says when pointed at."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class TrendPlot:
    """One trend in pixels: a dot a baseline, the band of the quartiles, the levels between steps, the axis's ends."""

    dots: tuple[Dot, ...]
    band: str
    levels: str
    breaks: tuple[float, ...]
    top: str
    bottom: str


@dataclass(frozen=True)
class Item:
    """One trend as the page shows it."""

    trend: Trend
    kind: str
    change: str
    steps: tuple[str, ...]
    plot: TrendPlot


def as_html(history: History) -> str:
    """Render the page; whatever comes from a file is escaped."""
    groups = [(title(group), notes(group), group, _items(group)) for group in history.groups]
    counts = Counter(item.kind for *_, items in groups for item in items)
    return render(
        "history.html",
        ("colours", "common", "history"),
        ("filter",),
        history=history,
        headline=_headline(history, counts),
        by_whom=by_whom(history),
        groups=groups,
        counts={kind: counts[kind] for kind in TONES if counts[kind]},
        tones=TONES,
        duration=duration,
        width=WIDTH,
        height=HEIGHT,
        min_points=MIN_POINTS,
    )


def kind(trend: Trend) -> str:
    """Say in a word how the end of a trend compares with its beginning."""
    if trend.steps is None:
        return "NOT JUDGED"
    if abs(log(trend.net_ratio)) < log(1 + MIN_CHANGE):
        return "STEADY"
    return "SLOWER" if trend.net_ratio > 1 else "FASTER"


def _headline(history: History, counts: Counter[str]) -> str:
    trends = len(history.trends)
    if history.finder is None:
        return f"{trends} trends, not judged"
    found = ", ".join(f"{counts[name]} {name.lower()}" for name in TONES if counts[name])
    return f"{trends} trends: {found}"


def _items(group: Group) -> list[Item]:
    items = [Item(trend, kind(trend), change(trend), tuple(steps(trend)), plot(trend)) for trend in group.trends]
    order = list(TONES)
    return sorted(items, key=lambda i: (order.index(i.kind), -abs(log(i.trend.last_over_first)), i.trend.case_id))


def plot(trend: Trend) -> TrendPlot:
    """Lay out one trend: baselines at equal distances, times on an axis of its own."""
    points = trend.points
    low, high = min(p.low_ns for p in points), max(p.high_ns for p in points)
    missing = MIN_SPAN * points[0].ns_per_call - (high - low)
    low, high = low - max(0.0, missing) / 2, high + max(0.0, missing) / 2

    def x(index: float) -> float:
        room = WIDTH - LEFT - RIGHT
        return round(LEFT + (room / 2 if len(points) == 1 else room * index / (len(points) - 1)), 1)

    def y(ns: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (ns - low) / (high - low), 1)

    def path(corners: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{across} {down}" for across, down in corners)

    edge = [(x(i), y(p.high_ns)) for i, p in enumerate(points)]
    edge += [(x(i), y(p.low_ns)) for i, p in reversed(list(enumerate(points)))]
    found = trend.steps or ()
    starts = [0, *(step.index for step in found)]
    ends = [*(step.index - 1 for step in found), len(points) - 1]
    means = [found[0].before_ns, *(step.after_ns for step in found)] if found else []
    levels = [[(x(a), y(ns)), (x(b), y(ns))] for a, b, ns in zip(starts, ends, means, strict=False)]
    return TrendPlot(
        tuple(Dot(x(i), y(p.ns_per_call), f"{p.file}: {duration(p.ns_per_call)}") for i, p in enumerate(points)),
        path(edge) + "Z",
        "".join(map(path, levels)),
        tuple(x(step.index - 0.5) for step in found),
        duration(high),
        duration(low),
    )
