"""The plots of the report: each with a sentence, computed from its data, that says what it shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from .estimate import Estimate, estimate, exponent, power_law, ratio, slope
from .figure import COLOURS, Plot, label_points, legend_below, logarithmic, paint_plot, sizes_below, styles
from .judgement import SETTLED_FROM
from .published import FUSED_BY_HAND, FUSED_SDPA, HEAD_COUNTS, ROWS, Row, of_tables
from .results import CALL_NS, ERROR, PAIRED_NS, PEAK_BYTES, Results
from .tables import device_name, tokens_of


def draw(results: Results, devices: tuple[str, ...]) -> list[Plot]:
    """Draw every plot for which there is data, on each device."""
    plots = []
    for device in devices:
        for plot in (time_by_tokens, memory_by_tokens, heads, directions, warm_up):
            plots += plot(results, device)
        plots += [p for dtype in ("fp32", "bf16", "fp16") for p in speed_and_error(results, device, dtype)]
    return plots


def time_by_tokens(results: Results, device: str) -> list[Plot]:
    """Time against context length, every kernel, with the fitted exponent."""
    by_kernel = {
        subject: {
            tokens_of(s): s.values for s in results.where(part="growth", device=device, subject=subject) if s.values
        }
        for subject in results.subjects(part="growth", device=device)
    }
    by_kernel = {subject: by for subject, by in by_kernel.items() if len(by) > 1}
    if not by_kernel:
        return []
    fits = {subject: exponent(by) for subject, by in by_kernel.items()}

    def paint(axes: Axes) -> None:
        for (subject, by), style in zip(by_kernel.items(), styles(), strict=False):
            times = {tokens: estimate(values).value * 1e-6 for tokens, values in by.items()}
            _with_fit(axes, subject, times, fits[subject].value, style)
        sizes_below(axes, sorted({t for by in by_kernel.values() for t in by}))
        axes.set_xlabel("context length T, tokens")
        axes.set_ylabel("time of one call, ms")
        logarithmic(axes)
        legend_below(axes)

    least, most = min(fits, key=lambda s: fits[s].value), max(fits, key=lambda s: fits[s].value)
    caption = (
        f"Time of one call against context length on the {device_name(device)}: over these lengths it grows least for "
        f"{least}, as T^{_ends(fits[least])}, and most for {most}, as T^{_ends(fits[most])}. Lines are the fits."
    )
    return [paint_plot(f"time-{device}", f"Time by context length, {device_name(device)}", caption, paint)]


def _with_fit(axes: Axes, subject: str, by: Mapping[int, float], p: float, style: Mapping[str, Any]) -> None:
    """Plot values as points, and the power law that was fitted to them as a line."""
    sizes, values = list(by), list(by.values())
    axes.plot(sizes, values, label=f"{subject}: T^{p:.2f}", **{**style, "linestyle": "none"})
    axes.plot(sizes, power_law(sizes, values, p), **{**style, "marker": "", "linewidth": 1})


def _ends(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def memory_by_tokens(results: Results, device: str) -> list[Plot]:
    """Peak memory against context length, every kernel."""
    by_kernel = {subject: by for subject, by in _peaks(results, device).items() if len(by) > 1}
    if not by_kernel:
        return []
    fits = {subject: slope(list(by), list(by.values())) for subject, by in by_kernel.items()}

    def paint(axes: Axes) -> None:
        for (subject, by), style in zip(by_kernel.items(), styles(), strict=False):
            _with_fit(axes, subject, {tokens: size * 1e-6 for tokens, size in by.items()}, fits[subject], style)
        sizes_below(axes, sorted({t for by in by_kernel.values() for t in by}))
        logarithmic(axes)
        axes.set_xlabel("context length T, tokens")
        axes.set_ylabel("peak that one call adds, MB")
        legend_below(axes)

    square = [subject for subject, fit in fits.items() if fit > 1.5]
    linear = [subject for subject, fit in fits.items() if fit <= 1.5]
    caption = (
        f"Peak memory of one call on the {device_name(device)}: nearer to T^2 for {_listed(square)}, nearer to T for "
        f"{_listed(linear)}. Lines are the fits."
    )
    return [paint_plot(f"memory-{device}", f"Memory by context length, {device_name(device)}", caption, paint)]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def heads(results: Results, device: str) -> list[Plot]:
    """Time against the number of heads, by hand and SDPA, beside the study's figures."""
    measured = {
        form: {
            count: series.values
            for count in HEAD_COUNTS
            if (
                series := results.one(
                    part="B1", device=device, subject=form, case=of_tables(512, count)[device], quantity=PAIRED_NS
                )
            )
            and series.values
        }
        for form in (FUSED_BY_HAND, FUSED_SDPA)
    }
    common = [count for count in HEAD_COUNTS if all(count in by for by in measured.values())]
    if not common:
        return []
    theirs = {
        form: {count: row.figure for row, count in zip(_rows_of(form), HEAD_COUNTS, strict=True)} for form in measured
    }

    def paint(axes: Axes) -> None:
        for (form, by), style in zip(measured.items(), styles(), strict=False):
            times = {count: estimate(values).value * 1e-6 for count, values in by.items()}
            axes.plot(list(times), list(times.values()), label=f"{form}, here", **style)
            hollow = {**style, "linestyle": ":", "markerfacecolor": "none"}
            axes.plot(list(theirs[form]), list(theirs[form].values()), label=f"{form}, the study (GPU)", **hollow)
        sizes_below(axes, HEAD_COUNTS)
        logarithmic(axes)
        axes.set_xlabel("heads (512 tokens, FP16)")
        axes.set_ylabel("time of one call, ms")
        legend_below(axes)

    times = [ratio(measured[FUSED_BY_HAND][count], measured[FUSED_SDPA][count]) for count in common]
    shown = ", ".join(f"{_ends(found)} with {count}" for found, count in zip(times, common, strict=True))
    caption = f"By hand takes so many times as long as SDPA on the {device_name(device)}, by heads: {shown}."
    return [paint_plot(f"heads-{device}", f"Heads, {device_name(device)}", caption, paint)]


def _rows_of(form: str) -> list[Row]:
    return [row for row in ROWS if row.table == "B1" and row.subject == form]


def directions(results: Results, device: str) -> list[Plot]:
    """Forward beside forward and backward, every kernel and module."""
    found: dict[str, tuple[float, float, Estimate]] = {}
    for part in ("directions", "module directions"):
        for forward in (s for s in results.where(part=part, device=device) if s.case.endswith("-fwd")):
            both = results.one(part=part, device=device, subject=forward.subject, case=f"{forward.case}bwd")
            if forward.values and both is not None and both.values:
                label = forward.subject if part == "directions" else f"{forward.subject} (module)"
                times = [estimate(s.values).value * 1e-6 for s in (forward, both)]
                found[label] = (times[0], times[1], ratio(both.values, forward.values))
    if not found:
        return []

    def paint(axes: Axes) -> None:
        rows = range(len(found))
        axes.barh([r - 0.2 for r in rows], [f for f, _, _ in found.values()], 0.4, color=COLOURS[0], label="forward")
        both = [b for _, b, _ in found.values()]
        axes.barh([r + 0.2 for r in rows], both, 0.4, color=COLOURS[1], label="forward and backward")
        axes.set_yticks(list(rows), list(found))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("time of one call, ms")
        legend_below(axes)

    least, most = (pick(found, key=lambda name: found[name][2].value) for pick in (min, max))
    caption = (
        f"Forward and backward together take {_ends(found[least][2])} ({least}) to {_ends(found[most][2])} ({most}) "
        f"times as long as forward alone, on the {device_name(device)}."
    )
    return [paint_plot(f"directions-{device}", f"Forward and backward, {device_name(device)}", caption, paint)]


def warm_up(results: Results, device: str) -> list[Plot]:
    """The first calls of fresh processes."""
    curves: dict[str, list[float]] = {}
    processes: list[int] = []
    for subject in results.subjects(device=device, quantity=CALL_NS):
        runs = [s.values for s in results.where(device=device, subject=subject, quantity=CALL_NS) if s.values]
        if runs:
            processes.append(len(runs))
            curves[subject] = [estimate(calls).value * 1e-6 for calls in zip(*runs, strict=True)]
    if not curves:
        return []

    def paint(axes: Axes) -> None:
        for (subject, times), style in zip(curves.items(), styles(), strict=False):
            axes.plot(range(1, len(times) + 1), times, label=subject, **{**style, "markersize": 3})
        logarithmic(axes)
        axes.set_xlabel("number of the call in a fresh process")
        axes.set_ylabel("time of that call, ms")
        legend_below(axes)

    times = {subject: curve[0] / estimate(curve[SETTLED_FROM:]).value for subject, curve in curves.items()}
    least, most = min(times, key=lambda s: times[s]), max(times, key=lambda s: times[s])
    caption = (
        f"The first call of a fresh process takes {times[least]:.3g} ({least}) to {times[most]:.3g} ({most}) times as "
        f"long as calls from the {SETTLED_FROM + 1}th, on the {device_name(device)}; "
        f"medians over fresh processes ({_span(processes)} of each)."
    )
    return [paint_plot(f"warm-up-{device}", f"Warm-up, {device_name(device)}", caption, paint)]


def _span(counts: Sequence[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def speed_and_error(results: Results, device: str, dtype: str) -> list[Plot]:
    """Speed against error, every kernel a labelled point."""
    points: dict[str, tuple[float, float]] = {}
    for error in results.where(part="error", device=device, quantity=ERROR):
        timed = results.one(part="error", device=device, subject=error.subject, case=error.case, quantity=PAIRED_NS)
        if f"-{dtype}-" in error.case and error.values and timed is not None and timed.values:
            points[error.subject] = (estimate(timed.values).value * 1e-6, error.values[0])
    if not points:
        return []

    def paint(axes: Axes) -> None:
        for (time, error), style in zip(points.values(), styles(), strict=False):
            axes.plot(time, error, **{**style, "linestyle": "none"})
        axes.margins(x=0.25, y=0.4)
        logarithmic(axes, x=True)
        axes.set_xlabel("time of one call, ms")
        axes.set_ylabel(f"largest error from the float64 oracle, {dtype}")
        label_points(axes, points)

    fastest = min(points, key=lambda s: points[s][0])
    closest = min(points, key=lambda s: (points[s][1], points[s][0]))  # of those equally exact, the fastest
    equal = [name for name in points if name != closest and points[name][1] == points[closest][1]]
    caption = (
        f"In {dtype} on the {device_name(device)}, {fastest} is the fastest ({points[fastest][0]:.3g} ms, error "
        f"{points[fastest][1]:.2g}) and {closest} the most exact ({points[closest][0]:.3g} ms, error "
        f"{points[closest][1]:.2g}{', as ' + _listed(equal) if equal else ''}); left is faster, down is more exact."
    )
    return [paint_plot(f"error-{dtype}-{device}", f"Speed and error, {dtype}, {device_name(device)}", caption, paint)]


def _peaks(results: Results, device: str) -> dict[str, dict[int, float]]:
    """The peaks by kernel and context length."""
    return {
        subject: {
            tokens_of(s): s.values[0]
            for s in results.where(part="memory", device=device, subject=subject, quantity=PEAK_BYTES)
            if s.values
        }
        for subject in results.subjects(part="memory", device=device)
    }
