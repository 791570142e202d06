"""Shares of trials with their exact intervals, and the rows of a self-test's table that hold them."""

from collections.abc import Iterable, Mapping, Sequence

from scipy.stats import binomtest

from ..judging.verdict import CaseResult, Verdict

Caught = Mapping[tuple[str, float], tuple[int, int]]  # by kind and size: how many were caught, and how many tried


def share(count: int, total: int) -> str:
    """Write a share with its exact (Clopper-Pearson) 95% interval."""
    if total == 0:
        return "none tried"
    shown, low, high = (f"{100 * value:.4g}%" for value in (count / total, *proportion(count, total)))
    return f"{count} of {total} = {shown} [{low}, {high}]"


def proportion(count: int, total: int) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson 1934) 95% interval of a share."""
    interval = binomtest(count, total).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def row(what: str, found: str, target: str = "-", missed: str | None = None) -> str:
    """Lay out a row; ``missed`` says by how much its target is missed, and is empty where it is met."""
    said = "" if missed is None else f"NOT MET, {missed}" if missed else "met"
    return f"{what:<46} {found:<46} target {target:<5} {said}".rstrip()


def over(value: float, limit: float, unit: str = "", said: str = "over") -> str:
    """Say by how much a value is over a limit; the text is empty where it is not."""
    return f"{value - limit:.3g}{unit} {said}" if value > limit else ""


def false_alarms(runs: Sequence[Sequence[CaseResult]]) -> list[str]:
    """Count what runs of unchanged code came to."""
    results = [result for run in runs for result in run]
    alarmed = sum(result.verdict is Verdict.REGRESSED for result in results)
    failed = sum(any(result.verdict.fails for result in run) for run in runs)
    undecided = sum(result.verdict is Verdict.INCONCLUSIVE for result in results)
    return [
        row("unchanged cases with a false alarm", share(alarmed, len(results)), "none", over(alarmed, 0)),
        row("unchanged runs that failed", share(failed, len(runs)), "none", over(failed, 0)),
        row(
            "unchanged cases left undecided",
            share(undecided, len(results)),
            "1%",
            over(100 * undecided / max(1, len(results)), 1, "%"),
        ),
    ]


def power(caught: Caught, threshold: float) -> Iterable[str]:
    """Count the injections that were caught; those of the threshold and more must be, and errors of 1%."""
    for (kind, size), (found, tried) in caught.items():
        smallest, least = (threshold, 99) if kind == "slowdown" else (0.01, 100)
        goal = (f"{least}%", over(least, 100 * found / tried, "%", "short")) if size >= smallest and tried else ()
        yield row(f"{kind} of {100 * size:g}% caught", share(found, tried), *goal)


def stock(fails: Mapping[str, Sequence[bool]]) -> Iterable[str]:
    """Count the runs of unchanged code that a stock check failed."""
    for check, runs in fails.items():
        yield row(f"stock gate {check} fails unchanged code", share(sum(runs), len(runs)))
