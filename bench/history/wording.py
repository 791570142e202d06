"""How trends and their steps are put into words, the same on the page as in the terminal. Pure."""

from ..report.text import duration
from .steps import INSTALL
from .trends import LEVEL, Group, History, LevelStep, Trend


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
    """Point at the files at which so many cases step that it may be the machine."""
    return [
        f"{cases} of {judged} cases step at {file}: look at the machine before the code"
        for file, cases, judged in group.shared_steps
    ]


def change(trend: Trend) -> str:
    """Write the last time beside the first."""
    first, last = trend.points[0], trend.points[-1]
    if len(trend.points) == 1:
        return f"{duration(last.ns_per_call)}, one baseline"
    return f"{duration(first.ns_per_call)} to {duration(last.ns_per_call)}, {100 * (trend.last_over_first - 1):+.1f}%"


def steps(trend: Trend) -> list[str]:
    """Write each step: where, by how much, how surely; and a step that a second value has yet to confirm."""
    written = [_step(trend, step) for step in trend.steps or ()]
    if trend.hint is None:
        return written
    percent, which = abs(100 * (trend.hint.ratio - 1)), "slower" if trend.hint.ratio > 1 else "faster"
    return [*written, f"the last alone is {percent:.1f}% {which}: a hint, until a second one agrees"]


def _step(trend: Trend, step: LevelStep) -> str:
    point = trend.points[step.index]
    which = "slower" if step.ratio > 1 else "faster"
    commit = f", commit {point.commit}" if point.commit else ""
    return (
        f"{abs(100 * (step.ratio - 1)):.1f}% {which} from {point.file} on ({point.when:%Y-%m-%d}{commit}): "
        f"{duration(step.before_ns)} to {duration(step.after_ns)}, p = {step.pvalue:.1g}"
    )
