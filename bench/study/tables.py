"""The tables of the report, as rows of text: the study's figure beside this machine's. Pure functions of results."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean

from ..report.text import duration
from .estimate import estimate, exponent, mean_without_outliers, number, ratio
from .judgement import Judgement, first_to_later
from .published import DEVICES, FIGURES, FUSED_BY_HAND, NOTED, SETTLED_FROM, Table
from .results import Quantity, Results, Series

DASH = "-"
SHOWN = set(Quantity) - {Quantity.PROTOCOL_NS, Quantity.CALL_NS}  # the first has a column of its own

Rows = Iterator[tuple[str, ...]]


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


def fill(name: str, table: Table, results: Results, devices: Sequence[str]) -> Table:
    """Give a table its rows: ``name`` is its part's."""
    return replace(table, rows=tuple(ROWS[name](results) if name in ROWS else of_study(name, results, devices)))


def of_study(name: str, results: Results, devices: Sequence[str]) -> Rows:
    """The study's figures beside ours, and below them what only we measured."""
    study = FIGURES[name]
    taken = [s for quantity in Quantity for s in results.where(part=name, quantity=quantity) if quantity in SHOWN]
    found = {(label(series), series.device): series for series in taken}
    for row in dict.fromkeys((*study.rows, *map(label, taken))):
        for device in dict.fromkeys((study.device, *devices)):
            series = found.get((row, device))
            theirs = study.rows.get(row, DASH) if device == study.device else DASH
            if series is not None:
                yield row, DEVICES[device], theirs, _by_protocol(series, results), _ours(series)
            elif theirs != DASH:
                reason = "needs a GPU" if device == "cuda" and device not in devices else "not asked for"
                yield row, DEVICES[device], theirs, reason, reason


def label(series: Series) -> str:
    """Name a row of a table of the study."""
    sizes = {"B1": f", {series.heads} heads", "B2": f", {series.tokens} tokens", "B3": f", {series.tokens} tokens"}
    quantity = f"{series.quantity}, " if series.part == "A1" else ""
    return f"{quantity}{series.subject}{sizes.get(series.part, '')}"


def _ours(series: Series) -> str:
    study = FIGURES[series.part]
    if series.quantity == Quantity.CLOSE:
        return _cell(series, lambda values: f"{fmean(values):.1%} of {len(values)} draws")
    counted = series.quantity == Quantity.PEAK_BYTES
    return _cell(series, lambda values: estimate(values, study.scale, counted=counted).show(study.unit))


def _by_protocol(series: Series, results: Results) -> str:
    """The study's statistic: the mean of its repetitions, scaled to all of them, or the mean without outliers."""
    taken = results.where(part=series.part, case=series.case, quantity=Quantity.PROTOCOL_NS)
    if not taken:
        return DASH
    study, count = FIGURES[series.part], len(taken[0].values)
    if series.part.startswith("B"):
        return _cell(
            taken[0], lambda ns: f"{number(mean_without_outliers(ns) * study.scale)}{study.unit} ({count} runs)"
        )
    cut = "" if count == NOTED else f" (scaled from {count / NOTED:.0%} of the calls)"
    return _cell(taken[0], lambda ns: f"{number(fmean(ns) * study.scale)}{study.unit}{cut}")


def _cell(series: Series, write: Callable[[Sequence[float]], str]) -> str:
    """Write the values, or why there are none."""
    return write(series.values) if series.values else f"not measured: {series.missing}"


def _time(series: Series) -> str:
    return _cell(series, lambda values: duration(estimate(values).value))


def _ratio(numerator: Series, denominator: Series) -> str:
    both = numerator.values and denominator.values
    return ratio(numerator.values, denominator.values).show() if both else DASH


def _warm_up(results: Results) -> Rows:
    """The first call of fresh processes against their later ones, by subject."""
    for (device, subject), series in results.by_subject(part="A4").items():
        runs = [s.values for s in series if s.values]
        cells = [_time(series[0]), DASH, DASH]  # the reason why there are none
        if runs:
            first = duration(estimate([run[0] for run in runs]).value)
            later = duration(estimate([estimate(run[SETTLED_FROM:]).value for run in runs]).value)
            cells = [first, later, first_to_later(series).show()]
        yield subject, DEVICES[device], *cells, str(len(runs))


def _matrix(results: Results) -> Rows:
    """Batch x sequence x heads x dtype, by hand against SDPA."""
    for hand in results.where(part="B", subject=FUSED_BY_HAND):
        case = hand.case
        _, sdpa, loop = (s for s in results.where(part="B") if s.case == replace(case, subject=s.subject))
        times = map(_time, (hand, sdpa, loop))
        yield str(case.shape), case.dtype, DEVICES[case.device], *times, _ratio(hand, sdpa)


def _growth(results: Results) -> Rows:
    """Exponents of time and memory against context length, of every kernel."""
    times, peaks = results.by_subject(part="growth"), results.by_subject(part="memory")
    for device, subject in times:
        yield subject, DEVICES[device], *_exponent(times[device, subject]), *_exponent(peaks[device, subject])


def _exponent(series: Sequence[Series]) -> tuple[str, str]:
    by_tokens = {s.tokens: s.values for s in series if s.values}
    if len(by_tokens) < 2:
        return f"not measured: {series[-1].missing}", DASH
    found = exponent(by_tokens, counted=series[0].quantity == Quantity.PEAK_BYTES)
    return f"T^{found.show()}", f"{min(by_tokens)} to {max(by_tokens)}"


def _long_context(results: Results) -> Rows:
    """The peak of memory where a score matrix would take gigabytes."""
    for series in results.where(part="long context"):
        peak = _cell(series, lambda values: f"{number(values[0] / 1e6)} MB")
        scores = f"{series.tokens**2 * 4 / 1e6:.0f} MB"
        yield series.subject, DEVICES[series.device], str(series.tokens), peak, scores


def _directions(results: Results) -> Rows:
    """Forward against forward and backward, of every kernel and module."""
    for (device, subject), (forward, both) in results.by_subject(part="directions").items():
        yield subject, DEVICES[device], _time(forward), _time(both), _ratio(both, forward)


def _errors(results: Results) -> Rows:
    """Speed and error of every kernel in every dtype."""
    times, found = (results.where(part="error", quantity=q) for q in (Quantity.PAIRED_NS, Quantity.ERROR))
    for timed, error in zip(times, found, strict=True):
        largest = _cell(error, lambda values: f"{values[0]:.3g}")
        yield error.subject, error.case.dtype, DEVICES[error.device], _time(timed), largest


ROWS: dict[str, Callable[[Results], Rows]] = {  # by part; the others are the study's
    "A4": _warm_up,
    "B": _matrix,
    "growth": _growth,
    "long context": _long_context,
    "directions": _directions,
    "error": _errors,
}
