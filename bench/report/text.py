"""How a row's figures are written, the same in every report."""

from collections import Counter
from collections.abc import Iterable

from ..judging.verdict import CaseResult, Verdict

COLUMNS = ("case", "verdict", "ratio", "interval", "base", "head", "pairs", "error", "why")


def row(case: CaseResult) -> tuple[str, ...]:
    """Write the cells of one case, in the order of ``COLUMNS``; error is a share of its budget, a dash not measured."""
    return (
        case.id,
        case.verdict.value,
        "-" if case.ratio is None else f"{case.ratio:.3f}",
        interval(case),
        duration(case.base_ns),
        duration(case.head_ns),
        str(case.pairs) if case.pairs else "-",
        "-" if case.margin is None else f"{case.margin:.0%}",
        "; ".join(case.reasons),
    )


def interval(case: CaseResult) -> str:
    """Write the confidence interval of the ratio; an end that the pairs do not bound is open."""
    if case.ratio is None:
        return "-"
    low, high = ("" if end is None else f"{end:.3f}" for end in case.ci)
    return f"[{low or '0'}, {high or 'inf'}]"


def duration(ns: float | None) -> str:
    """Write a time per call with a unit that keeps it short."""
    if ns is None:
        return "-"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= 0.9995 * size:  # what three digits round up to it
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def counts(cases: Iterable[CaseResult]) -> str:
    """Count cases by verdict, worst first: ``2 REGRESSED, 1 INCONCLUSIVE``."""
    found = Counter(case.verdict for case in cases)
    return ", ".join(f"{found[verdict]} {verdict.value}" for verdict in Verdict if found[verdict])


def subject(case_id: str) -> str:
    """Return the name of the kernel or module in a case's id; the five parts after it have no hyphen."""
    return case_id.rsplit("-", 5)[0]
