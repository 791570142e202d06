"""How trends and their steps are put into words, the same on the page as in the terminal. Pure."""

from math import log

from ..report.text import duration
from .steps import INSTALL
from .trends import LEVEL, MIN_CHANGE, Group, History, LevelStep, Trend


def by_whom(history: History) -> str:
    """Say what looked for change points, or why nothing did."""
    if history.finder is None:
        return f"change points were not looked for: {INSTALL}"
    return f"change points by {history.finder}, nominal p at most {LEVEL:g} over all trends"


def title(group: Group) -> str:
    """Name the environment of a group."""
    return ", ".join(
        value if name in ("cpu", "gpu", "malloc") else f"{name} {value}" for name, value in group.environment
    )


def notes(group: Group) -> list[str]:
    """Name the files at which so many cases step that the machine may have changed."""
    return [
        f"{cases} of {judged} cases step at {file}: look at the machine before the code"
        for file, cases, judged in group.shared_steps
    ]


def kind(trend: Trend) -> str:
    """Say in a word how the end of a trend compares with its beginning."""
    if trend.steps is None:
        return "NOT JUDGED"
    if abs(log(trend.net_ratio)) < log(1 + MIN_CHANGE):
        return "STEADY"
    return "SLOWER" if trend.net_ratio > 1 else "FASTER"


def change(trend: Trend) -> str:
    """Write the last time beside the first."""
    first, last = trend.points[0], trend.points[-1]
    if len(trend.points) == 1:
        return f"{duration(last.ns_per_call)}, one baseline"
    return f"{duration(first.ns_per_call)} to {duration(last.ns_per_call)}, {100 * (trend.last_over_first - 1):+.1f}%"


def steps(trend: Trend) -> list[str]:
    """Write each step: where, by how much, how surely; and a step that a second value has yet to confirm."""
    written = []
    for step in trend.steps or ():
        point = trend.points[step.index]
        commit = f", commit {point.commit}" if point.commit else ""
        written.append(
            f"{_change(step)} from {point.file} on ({point.when:%Y-%m-%d}{commit}): "
            f"{duration(step.before_ns)} to {duration(step.after_ns)}, p = {step.pvalue:.1g}"
        )
    if trend.hint is not None:
        written.append(f"the last time alone is {_change(trend.hint)}: a hint, until a second time agrees")
    return written


def _change(step: LevelStep) -> str:
    return f"{abs(100 * (step.ratio - 1)):.1f}% {'slower' if step.ratio > 1 else 'faster'}"
