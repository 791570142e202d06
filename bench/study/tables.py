"""The tables of the report, as rows of text: the study's figure beside this machine's. Pure functions of results."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from ..report.text import duration
from .estimate import estimate, exact, mean_without_outliers, ratio
from .judgement import SETTLED_FROM, Judgement, number, show
from .published import FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, ROWS, Row
from .published import Table as Published
from .results import CALL_NS, CLOSE, ERROR, PAIRED_NS, PEAK_BYTES, PROTOCOL_NS, Results, Series

DASH = "-"
PARTS_OF_REPEATED = 100  # what sampling.repeated notes the repetitions in


@dataclass(frozen=True)
class Table:
    """A table as it is shown: title, a note, and cells of text; ``marks`` gives a row's verdict where it has one."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[str, ...] = ()


def device_name(device: str) -> str:
    return {"cuda": "GPU", "cpu": "CPU"}[device]


def claims(judgements: Iterable[Judgement]) -> Table:
    """Every claim with its verdict."""
    chosen = list(judgements)
    return Table(
        "What the study claims, and whether it holds here",
        "A claim holds if the whole 95% interval is in the range that it states, and does not if the whole interval is "
        "outside it; otherwise it cannot be told. What was claimed of a GPU is judged on the CPU as well, on a line "
        "of its own, because the same comparison can be made there.",
        ("table", "claim", "on", "here", "why"),
        tuple((j.table, j.claim, device_name(j.device), j.verdict.value, j.reason) for j in chosen),
        tuple(j.verdict.name for j in chosen),
    )


def of_study(published: Published, results: Results, devices: tuple[str, ...]) -> Table:
    """One table of the study, its figures beside ours, and below them what only we measured."""
    columns = ("row", "on", "the study", "here, its protocol", "here, median [95% interval]")
    rows, shown = [], set()
    chosen = [row for row in ROWS if row.table == published.name]
    for row in chosen:
        for device in dict.fromkeys((row.device, *devices)):
            theirs = row.statement if device == row.device else DASH
            if device not in devices:
                reason = "needs a GPU" if device == "cuda" else "the CPU was not asked for"
                rows.append((row.label, device_name(device), theirs, reason, reason))
                continue
            cells = _cells(row, device, results)
            if cells is not None:
                rows.append((row.label, device_name(device), theirs, *cells))
            shown.add((device, row.subject, row.cases[device]))
    one_case = len({row.cases["cpu"] for row in chosen}) == 1
    more = (chosen[0].quantity, ERROR)
    for series in (s for quantity in more for s in results.where(part=published.name, quantity=quantity)):
        if series.quantity == ERROR or (series.device, series.subject, series.case) not in shown:
            label = series.subject if one_case else f"{series.subject}, {tokens_of(series)} tokens"
            label = f"{series.quantity}, {label}" if published.name == "A1" else label
            cells = (_protocol(chosen[0], series, results), _ours(chosen[0], series))
            rows.append((label, device_name(series.device), DASH, *cells))
    return Table(f"{published.name}: {published.title}", published.note, columns, tuple(rows))


def _cells(row: Row, device: str, results: Results) -> tuple[str, str] | None:
    where = {"part": row.table, "device": device, "subject": row.subject, "case": row.cases[device]}
    series = results.one(**where, quantity=row.quantity)
    if series is None:
        missing = results.where(**where)
        if not missing and device != row.device:
            return None  # its part is about another device
        reason = f"not measured: {missing[0].missing}" if missing else "its part has not run"
        return reason, reason
    return _protocol(row, series, results), _ours(row, series)


def _ours(row: Row, series: Series) -> str:
    if not series.values:
        return f"not measured: {series.missing}"
    unit = f" {row.unit}" if row.unit else ""
    if series.quantity == PEAK_BYTES:
        return show(exact(series.values[0] * row.scale), unit)
    if series.quantity == CLOSE:
        return f"{fmean(series.values):.1%} of {len(series.values)} draws"
    return show(estimate(series.values).scaled(row.scale), unit)


def _protocol(row: Row, series: Series, results: Results) -> str:
    """The study's statistic: the total of its repetitions, or the mean without outliers."""
    if row.protocol is None:
        return DASH
    one = results.one(
        part=series.part, device=series.device, subject=series.subject, case=series.case, quantity=PROTOCOL_NS
    )
    if one is None or not one.values:
        return f"not measured: {one.missing}" if one else DASH
    if row.table.startswith("A"):
        share = len(one.values) / PARTS_OF_REPEATED
        cut = "" if share >= 1 else f" (scaled from {share:.0%} of the calls)"
        return f"{number(fmean(one.values) * row.scale)} {row.unit}{cut}"
    return f"{number(mean_without_outliers(one.values) * row.scale)} {row.unit} ({len(one.values)} runs)"


def warm_up(published: Published, results: Results) -> Table:
    """A4: the first call of fresh processes against their later ones, by subject."""
    rows = []
    for device in dict.fromkeys(s.device for s in results.where(quantity=CALL_NS)):
        for subject in results.subjects(device=device, quantity=CALL_NS):
            series = results.where(device=device, subject=subject, quantity=CALL_NS)
            runs = [s.values for s in series if s.values]
            if not runs:
                rows.append((subject, device_name(device), f"not measured: {series[0].missing}", DASH, DASH, "0"))
                continue
            later = [estimate(run[SETTLED_FROM:]).value for run in runs]
            first = estimate([run[0] for run in runs]).value
            times = show(ratio([run[0] for run in runs], later))
            cells = (duration(first), duration(estimate(later).value), times, str(len(runs)))
            rows.append((subject, device_name(device), *cells))
    columns = ("subject", "on", "first call", f"calls from the {SETTLED_FROM + 1}th", "first / later", "processes")
    return Table(f"{published.name}: {published.title}", published.note, columns, tuple(rows))


def matrix(results: Results) -> Table:
    """Batch x sequence x heads x dtype, by hand against SDPA."""
    rows = []
    for first in results.where(part="B", subject=FUSED_BY_HAND):
        series = {
            s.subject: s for s in results.where(part="B", device=first.device, case=first.case, quantity=PAIRED_NS)
        }
        times = [time_of(series[form]) for form in (FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA)]
        both = first.values and series[FUSED_SDPA].values
        compared = show(ratio(first.values, series[FUSED_SDPA].values)) if both else DASH
        shape, _, dtype, _ = first.case.split("-")
        rows.append((shape, dtype, device_name(first.device), *times, compared))
    return Table(
        "B: the whole matrix",
        "Multi-head attention, causal, forward: batch (b), heads (h), tokens (t), head size (d). Time of one call, "
        "median; the ratio is of neighbouring calls.",
        ("shape", "dtype", "on", FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, "by hand / SDPA"),
        tuple(rows),
    )


def time_of(series: Series) -> str:
    """Write the median time of a call, or why there is none."""
    return duration(estimate(series.values).value) if series.values else f"not measured: {series.missing}"


def tokens_of(series: Series) -> int:
    """The context length of a series' case."""
    return int(series.case.partition("t")[2].partition("d")[0])
