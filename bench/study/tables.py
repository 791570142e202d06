"""The tables of the report, as rows of text: the study's figure beside this machine's. Pure functions of results."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from ..report.text import duration
from .estimate import estimate, exact, mean_without_outliers, number, ratio
from .judgement import Judgement, first_to_later, growth_of
from .published import DEVICES, FIGURES, FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, NOTED, SCALES, SETTLED_FROM, TABLES
from .results import Quantity, Results, Series
from .table import Table

DASH = "-"
SHOWN = set(Quantity) - {Quantity.PROTOCOL_NS, Quantity.CALL_NS}  # the first has a column of its own


def claims(judgements: Sequence[Judgement]) -> Table:
    """Every claim with its verdict."""
    return Table(
        "What the study claims, and whether it holds here",
        "A claim holds if the whole 95% interval is in the range that it states, and does not if the whole interval is "
        "outside it; otherwise it cannot be told. What was claimed of a GPU is judged on the CPU as well, on a line "
        "of its own, because the same comparison can be made there.",
        ("table", "claim", "on", "here", "why"),
        tuple((j.claim.table, j.claim.text, DEVICES[j.device], j.verdict.value, j.reason) for j in judgements),
        tuple(j.verdict.name for j in judgements),
    )


def of_study(name: str, results: Results, devices: Sequence[str]) -> Table:
    """One table of the study, its figures beside ours, and below them what only we measured."""
    about, figures = FIGURES[name]
    taken = [s for quantity in Quantity for s in results.where(part=name, quantity=quantity) if quantity in SHOWN]
    found = {(label(series), series.device): series for series in taken}
    lines = []
    for row in dict.fromkeys((*figures, *map(label, taken))):
        for device in dict.fromkeys((about, *devices)):
            series = found.get((row, device))
            theirs = figures.get(row, DASH) if device == about else DASH
            if series is not None:
                lines.append((row, DEVICES[device], theirs, _by_protocol(series, results), _ours(series)))
            elif theirs != DASH:
                reason = "needs a GPU" if device == "cuda" and device not in devices else "not asked for"
                lines.append((row, DEVICES[device], theirs, reason, reason))
    return replace(TABLES[name], rows=tuple(lines))


def label(series: Series) -> str:
    """Name a row of a table of the study."""
    sizes = {"B1": f", {series.heads} heads", "B2": f", {series.tokens} tokens", "B3": f", {series.tokens} tokens"}
    quantity = f"{series.quantity}, " if series.part == "A1" else ""
    return f"{quantity}{series.subject}{sizes.get(series.part, '')}"


def _ours(series: Series) -> str:
    scale, unit = SCALES[series.part]
    if series.quantity == Quantity.CLOSE:
        return _cell(series, lambda values: f"{fmean(values):.1%} of {len(values)} draws")
    if series.quantity == Quantity.PEAK_BYTES:
        return _cell(series, lambda values: exact(values[0] * scale).show(unit))
    return _cell(series, lambda values: estimate(values, scale).show(unit))


def _by_protocol(series: Series, results: Results) -> str:
    """The study's statistic: the mean of its repetitions, scaled to all of them, or the mean without outliers."""
    same = {"part": series.part, "device": series.device, "subject": series.subject, "case": series.case}
    taken = results.where(**same, quantity=Quantity.PROTOCOL_NS)
    if not taken:
        return DASH
    scale, unit = SCALES[series.part]
    count = len(taken[0].values)
    if series.part.startswith("B"):
        return _cell(taken[0], lambda ns: f"{number(mean_without_outliers(ns) * scale)}{unit} ({count} runs)")
    cut = "" if count == NOTED else f" (scaled from {count / NOTED:.0%} of the calls)"
    return _cell(taken[0], lambda ns: f"{number(fmean(ns) * scale)}{unit}{cut}")


def _cell(series: Series, write: Callable[[Sequence[float]], str]) -> str:
    """Write the values, or why there are none."""
    return write(series.values) if series.values else f"not measured: {series.missing}"


def _time(series: Series) -> str:
    return _cell(series, lambda values: duration(estimate(values).value))


def _ratio(numerator: Series, denominator: Series) -> str:
    both = numerator.values and denominator.values
    return ratio(numerator.values, denominator.values).show() if both else DASH


def warm_up(results: Results) -> Table:
    """A4: the first call of fresh processes against their later ones, by subject."""
    rows = []
    for (device, subject), series in results.by_subject(part="A4").items():
        runs = [s.values for s in series if s.values]
        cells = [_time(series[0]), DASH, DASH]  # the reason why there are none
        if runs:
            first = duration(estimate([run[0] for run in runs]).value)
            later = duration(estimate([estimate(run[SETTLED_FROM:]).value for run in runs]).value)
            cells = [first, later, first_to_later(series).show()]
        rows.append((subject, DEVICES[device], *cells, str(len(runs))))
    return replace(TABLES["A4"], rows=tuple(rows))


def matrix(results: Results) -> Table:
    """Batch x sequence x heads x dtype, by hand against SDPA."""
    rows = []
    for hand in results.where(part="B", subject=FUSED_BY_HAND):
        _, sdpa, loop = results.where(part="B", device=hand.device, case=hand.case)
        shape, times = hand.case.partition("-")[0], map(_time, (hand, sdpa, loop))
        rows.append((shape, hand.dtype, DEVICES[hand.device], *times, _ratio(hand, sdpa)))
    return Table(
        "B: the whole matrix",
        "Multi-head attention, causal, forward: batch (b), heads (h), tokens (t), head size (d). Time of one call, "
        "median; the ratio is of neighbouring calls.",
        ("shape", "dtype", "on", FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, "by hand / SDPA"),
        tuple(rows),
    )


def growth(results: Results) -> Table:
    """Exponents of time and memory against context length, of every kernel."""
    times, peaks = results.by_subject(part="growth"), results.by_subject(part="memory")
    return Table(
        "Growth with context length, every kernel",
        "Batch 1, 8 heads, head size 64, FP32, forward. The exponent is that of the least-squares line through all "
        "lengths on logarithms; its interval is about noise, not about how straight the line is.",
        ("kernel", "on", "time", "tokens", "memory", "tokens of it"),
        tuple((key[1], DEVICES[key[0]], *_growth(times[key]), *_growth(peaks[key])) for key in times),
    )


def _growth(series: Sequence[Series]) -> tuple[str, str]:
    by_tokens = {s.tokens: s.values for s in series if s.values}
    if len(by_tokens) < 2:
        return f"not measured: {series[-1].missing}", DASH
    return f"T^{growth_of(by_tokens, series[0].quantity).show()}", f"{min(by_tokens)} to {max(by_tokens)}"


def long_context(results: Results) -> Table:
    """The peak of memory where a score matrix would take gigabytes."""
    return Table(
        "Long context",
        "Batch 1, 1 head, head size 32, FP32, causal, one call forward and backward: the most that its tensors took at "
        "a time, beyond the inputs, and what a single score matrix would take.",
        ("kernel", "on", "tokens", "peak of memory", "one score matrix"),
        tuple(
            (
                series.subject,
                DEVICES[series.device],
                str(series.tokens),
                _cell(series, lambda values: f"{number(values[0] / 1e6)} MB"),
                f"{series.tokens**2 * 4 / 1e6:.0f} MB",
            )
            for series in results.where(part="long context")
        ),
    )


def directions(results: Results) -> Table:
    """Forward against forward and backward, of every kernel and module."""
    return Table(
        "Forward and backward",
        "Every kernel, and then modules. Batch 1, 8 heads, 512 tokens, head size 64, FP32, causal where the kernel "
        "knows it.",
        ("subject", "on", "forward", "forward and backward", "ratio"),
        tuple(
            (subject, DEVICES[device], _time(forward), _time(both), _ratio(both, forward))
            for (device, subject), (forward, both) in results.by_subject(part="directions").items()
        ),
    )


def errors(results: Results) -> Table:
    """Speed and error of every kernel in every dtype."""
    times, found = (results.where(part="error", quantity=q) for q in (Quantity.PAIRED_NS, Quantity.ERROR))
    return Table(
        "Speed and error, every kernel",
        "Batch 1, 8 heads, 512 tokens, head size 64, full attention, forward. Error: the largest difference from the "
        "float64 oracle on the same rounded inputs.",
        ("kernel", "dtype", "on", "time", "largest error"),
        tuple(
            (error.subject, error.dtype, DEVICES[error.device], _time(timed), _cell(error, lambda v: f"{v[0]:.3g}"))
            for timed, error in zip(times, found, strict=True)
        ),
    )
