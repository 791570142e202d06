"""The tables of what the write-ups left out: growth, backward pass and error of every kernel; faults; environment."""

from collections.abc import Iterable

from ..report.text import duration
from .estimate import counted_exponent, estimate, exact, exponent, ratio
from .judgement import show
from .published import BLOCK, CONSTANT, EARLY, MEAN
from .results import ERROR, PAIRED_NS, Results
from .tables import DASH, Table, device_name, time_of, tokens_of


def growth(results: Results) -> Table:
    """Exponents of time and memory against context length, of every kernel."""
    rows = []
    for device in dict.fromkeys(s.device for s in results.where(part="growth")):
        for subject in results.subjects(part="growth", device=device):
            time, memory = (
                {tokens_of(s): s.values for s in results.where(part=part, device=device, subject=subject) if s.values}
                for part in ("growth", "memory")
            )
            missing = next(iter(results.where(part="growth", device=device, subject=subject))).missing
            cells = [
                f"T^{show(fit(by))}" if len(by) > 1 else f"not measured: {missing}"
                for fit, by in ((exponent, time), (counted_exponent, memory))
            ]
            spans = [f"{min(by)} to {max(by)}" if by else DASH for by in (time, memory)]
            rows.append((subject, device_name(device), cells[0], spans[0], cells[1], spans[1]))
    return Table(
        "Growth with context length, every kernel",
        "Batch 1, 8 heads, head size 64, FP32, forward. The exponent is that of the least-squares line through all "
        "lengths on logarithms; its interval is about noise, not about how straight the line is.",
        ("kernel", "on", "time", "tokens", "memory", "tokens of it"),
        tuple(rows),
    )


def long_context(results: Results) -> Table:
    """The peak of memory where a score matrix would take gigabytes."""
    rows = []
    for series in results.where(part="long context"):
        peak = show(exact(series.values[0] / 1e6), " MB") if series.values else f"not measured: {series.missing}"
        matrix = f"{tokens_of(series) ** 2 * 4 / 1e6:.0f} MB"
        rows.append((series.subject, device_name(series.device), str(tokens_of(series)), peak, matrix))
    return Table(
        "Long context",
        "Batch 1, 1 head, head size 32, FP32, causal, one call forward and backward: the most that its tensors took at "
        "a time, beyond the inputs, and what a single score matrix would take.",
        ("kernel", "on", "tokens", "peak of memory", "one score matrix"),
        tuple(rows),
    )


def directions(results: Results) -> Table:
    """Forward against forward and backward, of every kernel and module."""
    rows = []
    for part, kind in (("directions", "kernel"), ("module directions", "module")):
        for forward in (s for s in results.where(part=part) if s.case.endswith("-fwd")):
            both = results.one(part=part, device=forward.device, subject=forward.subject, case=f"{forward.case}bwd")
            assert both is not None
            more = show(ratio(both.values, forward.values)) if both.values and forward.values else DASH
            rows.append((forward.subject, kind, device_name(forward.device), time_of(forward), time_of(both), more))
    return Table(
        "Forward and backward",
        "Batch 1, 8 heads, 512 tokens, head size 64, FP32, causal where the kernel knows it.",
        ("subject", "what", "on", "forward", "forward and backward", "ratio"),
        tuple(rows),
    )


def errors(results: Results) -> Table:
    """Speed and error of every kernel in every dtype."""
    rows = []
    for error in results.where(part="error", quantity=ERROR):
        where = {"part": "error", "device": error.device, "subject": error.subject, "case": error.case}
        timed = results.one(**where, quantity=PAIRED_NS)
        shown = f"{error.values[0]:.3g}" if error.values else f"not measured: {error.missing}"
        time = DASH if timed is None else time_of(timed)
        rows.append((error.subject, error.case.split("-")[2], device_name(error.device), time, shown))
    return Table(
        "Speed and error, every kernel",
        "Batch 1, 8 heads, 512 tokens, head size 64, full attention, forward. Error: the largest difference from the "
        "float64 oracle on the same rounded inputs.",
        ("kernel", "dtype", "on", "time", "largest error"),
        tuple(rows),
    )


def faults(results: Results) -> Table:
    """The three faults of the published code, the wrong way beside the right one."""
    effects = {
        CONSTANT: "value of a query that sees nothing (0 is right)",
        EARLY: "time of one call",
        MEAN: f"divided by the median of the same {BLOCK} runs",
    }
    rows = []
    for part, effect in effects.items():
        for series in results.where(part=part):
            if not series.values:
                shown = series.missing or DASH
            elif part == EARLY:
                shown = duration(series.values[0])
            else:
                one = len(series.values) == 1  # a deterministic result
                shown = show(exact(series.values[0]) if one else estimate(series.values))
                shown += "" if one else f", at most {max(series.values):.3g}"
            rows.append((part, series.subject, series.case, device_name(series.device), effect, shown))
    return Table(
        "Three faults of the published code",
        "It masks with -1e9, which FP16 cannot hold, and which turns a query that sees nothing into the mean of v. It "
        "starts the clock before the warm-up's kernels have finished, so that their time counts too: shown on a queue "
        "of calls of known length, and on the GPU where there is one. It takes a plain mean although its protocol "
        f"drops outliers: the mean of every {BLOCK} runs is compared with their median.",
        ("fault", "way", "case", "on", "what is shown", "result"),
        tuple(rows),
    )


def left_out(rows: Iterable[tuple[str, str, str]]) -> Table:
    return Table(
        "What the write-ups left out, and where it is",
        "Looked up among the kernels, modules and files of this version.",
        ("left out there", "here", "see"),
        tuple(rows),
    )


def environment(record: Iterable[tuple[str, str]]) -> Table:
    return Table("Environment", "", ("what", "value"), tuple(record))
