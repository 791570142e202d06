"""The plots of the report: what its tables say in figures, as curves."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from .estimate import estimate
from .figure import Plot
from .published import DEVICES, HEAD_COUNTS, HEADS_MS, SCALING_TOKENS
from .results import Quantity, Results, Series

MS = "time of one call, ms"


def draw(results: Results, devices: Sequence[str]) -> list[Plot]:
    """Draw every plot for which there is data, on each device."""
    return [
        replace(plot, name=f"{plot.name}-{device}", title=f"{plot.title}, {DEVICES[device]}")
        for device in devices
        for plot in _of_device(Results(tuple(results.where(device=device))))
        if any(plot.curves.values())
    ]


def _of_device(results: Results) -> Iterator[Plot]:
    for name, part, y_label in (("time", "growth", MS), ("memory", "memory", "peak that one call adds, MB")):
        caption = f"The {name} of one call of every kernel; the table of growth has the exponents."
        curves = _curves(results.where(part=part), lambda s: s.tokens)
        title = f"{name.title()} by context length"
        yield Plot(name, title, caption, "context length T, tokens", y_label, curves, SCALING_TOKENS)

    caption = "Multi-head attention by hand and by SDPA, beside the study's figures; table B1 has ours."
    here = _curves(results.where(part="B1", quantity=Quantity.PAIRED_NS), lambda s: s.heads)
    theirs = {f"{form}, the study (GPU)": ms for form, ms in HEADS_MS.items()}
    yield Plot("heads", "Heads", caption, "heads (512 tokens, FP16)", MS, here and here | theirs, HEAD_COUNTS)

    caption = "One call of every kernel and module; the table of forward and backward has the ratios."
    pairs = [pair for pair in results.by_subject(part="directions").values() if all(s.values for s in pair)]
    points = {forward.subject: {_middle(forward.values): _middle(both.values)} for forward, both in pairs}
    yield Plot("directions", "Forward and backward", caption, f"forward: {MS}", f"forward and backward: {MS}", points)

    caption = "The first calls of a fresh process, medians over processes; table A4 has the ratios."
    calls = {
        subject: dict(enumerate(map(_middle, zip(*(s.values for s in taken), strict=False)), start=1))
        for (_, subject), taken in results.by_subject(part="A4").items()
    }
    yield Plot("warm-up", "Warm-up", caption, "number of the call in a fresh process", MS, calls)

    for dtype in ("fp32", "bf16", "fp16"):
        caption = f"Every kernel in {dtype}: left is faster, down is more exact."
        pair = (results.where(part="error", dtype=dtype, quantity=q) for q in (Quantity.PAIRED_NS, Quantity.ERROR))
        points = {
            t.subject: {_middle(t.values): e.values[0]} for t, e in zip(*pair, strict=True) if t.values and e.values
        }
        y_label = f"largest error from the float64 oracle, {dtype}"
        yield Plot(f"error-{dtype}", f"Speed and error, {dtype}", caption, MS, y_label, points)


def _curves(series: Iterable[Series], x: Callable[[Series], int]) -> dict[str, dict[int, float]]:
    """Medians by subject and x."""
    curves: dict[str, dict[int, float]] = {}
    for each in (s for s in series if s.values):
        curves.setdefault(each.subject, {})[x(each)] = _middle(each.values)
    return curves


def _middle(values: Sequence[float]) -> float:
    """The median in millions: of ns, ms; of bytes, MB."""
    return estimate(values).value * 1e-6
