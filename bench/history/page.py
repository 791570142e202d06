"""The trends of all cases as a page of small plots that needs no network. Pure."""

from collections import Counter
from dataclasses import dataclass
from math import log

from ..plain.printable import counted
from ..report.pages import render
from . import wording
from .trends import Group, History, Trend

WIDTH, HEIGHT = 320, 96
SIDES, ENDS = 6, 8  # margins inside the plot: left and right, top and bottom
MIN_SPAN = 0.1  # the plot spans at least this share of the time, so that noise looks like noise

TONES = {"SLOWER": "fail", "FASTER": "gain", "STEADY": "pass", "NOT JUDGED": "skip"}


@dataclass(frozen=True)
class Axes:
    """Where a trend's points lie in its plot, in pixels: baselines at equal distances, slower is higher."""

    baselines: int
    low_ns: float
    high_ns: float

    @classmethod
    def of(cls, trend: Trend) -> "Axes":
        """Fit the axis of time to all quartiles."""
        low, high = min(p.low_ns for p in trend.points), max(p.high_ns for p in trend.points)
        missing = max(0.0, MIN_SPAN * trend.points[0].ns_per_call - (high - low))
        return cls(len(trend.points), low - missing / 2, high + missing / 2)

    def x(self, index: float) -> float:
        share = index / (self.baselines - 1) if self.baselines > 1 else 0.5
        return round(SIDES + (WIDTH - 2 * SIDES) * share, 1)

    def y(self, ns: float) -> float:
        share = (ns - self.low_ns) / (self.high_ns - self.low_ns)
        return round(HEIGHT - ENDS - (HEIGHT - 2 * ENDS) * share, 1)


def as_html(history: History) -> str:
    """Render the page; whatever comes from a file is escaped."""
    counts = Counter(wording.kind(trend) for trend in history.trends)
    present = {kind: counts[kind] for kind in TONES if counts[kind]}
    found = ", ".join(f"{count} {kind.lower()}" for kind, count in present.items())
    return render(
        "history.html",
        ("colours", "common", "history"),
        ("filter",),
        history=history,
        headline=f"{counted(len(history.trends), 'trend')}{', not judged' if history.finder is None else f': {found}'}",
        in_order=in_order,
        counts=present,
        tones=TONES,
        wording=wording,
        axes_of=Axes.of,
        width=WIDTH,
        height=HEIGHT,
    )


def in_order(group: Group) -> list[Trend]:
    """Sort a group's trends: those that became slower first, and of each kind those that changed most."""
    kinds = list(TONES)
    return sorted(group.trends, key=lambda t: (kinds.index(wording.kind(t)), -abs(log(t.last_over_first)), t.case_id))
