"""How a row's figures are written, the same in every report."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import exp

from ..judging.policy import Policy
from ..judging.statistics import confidence_interval, median
from ..judging.verdict import CaseResult, HostTime, Verdict
from ..plain.evidence import Pair

COLUMNS = ("case", "verdict", "ratio", "interval", "base", "head", "pairs", "error", "why")


def row(case: CaseResult) -> tuple[str, ...]:
    """Write the cells of one case, in the order of ``COLUMNS``; error is a share of its budget, a dash not measured."""
    return (
        case.id,
        case.verdict.value,
        "-" if case.ratio is None else f"{case.ratio:.3f}",
        interval(case),
        duration(case.base_ns),
        duration(case.head_by_ratio_ns),
        str(case.pairs) if case.pairs else "-",
        share(case.margin),
        "; ".join(case.reasons),
    )


def rows_of(case: CaseResult) -> list[tuple[str, ...]]:
    """Write a case as a line, and the host's time as a second where it was judged."""
    return [cells for cells in (row(case), of_host(case)) if cells is not None]


def of_host(case: CaseResult) -> tuple[str, ...] | None:
    """Write the cells of the host's time of a case, in a line of its own; None where it was not judged."""
    host = case.host
    if host is None or host.verdict is None or host.ratio is None:
        return None
    head_ns = host.base_ns * host.ratio
    figures = f"{host.ratio:.3f}", interval(host), duration(host.base_ns), duration(head_ns), str(host.pairs)
    return ("  its host's time", host.verdict.value, *figures, "", "")


def interval(case: CaseResult | HostTime) -> str:
    """Write the confidence interval of the ratio, or its one end if the pairs bound no other."""
    if case.ratio is None:
        return "-"
    match case.ci:
        case None, None:
            return "too few pairs"
        case None, high:
            return f"at most {high:.3f}"
        case low, None:
            return f"at least {low:.3f}"
        case low, high:
            return f"[{low:.3f}, {high:.3f}]"


def ratio_of(pairs: Sequence[Pair]) -> tuple[float, str]:
    """Return the median ratio of pairs that nobody judges, and its 99.8% interval as text; an end may be unknown."""
    ordered = sorted(pair.log_ratio for pair in pairs)
    ends = confidence_interval(ordered, 0.001)
    shown = ("?" if end is None else f"{exp(end):.3f}" for end in (ends.low, ends.high))
    return exp(median(ordered)), f"[{', '.join(shown)}]"


def share(margin: float | None) -> str:
    """Write the largest error as a share of its budget: in percent, or as a factor where it is large."""
    if margin is None:
        return "-"
    if margin < 100:
        return f"{margin:.0%}"
    return f"{margin:,.0f} x" if margin < 1e6 else f"{margin:.0e} x"


def legend(policy: Policy) -> str:
    """Say once how to read the figures of all rows."""
    return f"ratio = head/base, the median of the pairs; head = base x ratio; intervals: {policy.intervals}"


def duration(ns: float | None) -> str:
    """Write a time per call with a unit that keeps it short."""
    if ns is None:
        return "-"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= 0.9995 * size:  # three digits of a value may round up to the next unit
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def counts(cases: Iterable[CaseResult]) -> str:
    """Count cases by verdict, worst first: ``2 REGRESSED, 1 INCONCLUSIVE``."""
    found = Counter(case.verdict for case in cases)
    return ", ".join(f"{found[verdict]} {verdict.value}" for verdict in Verdict if found[verdict])


def subject(case_id: str) -> str:
    """Return the name of the kernel or module in a case's id, which five parts without a hyphen follow; or the test.

    A test is named by its node id, without its parameters.
    """
    if "::" in case_id:
        return case_id.partition("[")[0]
    return case_id.rsplit("-", 5)[0]
