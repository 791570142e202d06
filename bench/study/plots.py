"""The plots of the report: what its tables say in figures, as curves, and how a plot looks."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from .estimate import estimate
from .published import DEVICES, ERROR_DTYPES, HEAD_COUNTS, HEADS_MS, SCALING_TOKENS
from .results import Quantity, Results, Series

MS = "time of one call, ms"
# Okabe and Ito's colours, which colour-blind readers can tell apart, without black, the colour of the text.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c"]
STYLES = cycler(linestyle=["-", "--", ":"]) * (cycler(color=COLOURS) + cycler(marker=list("os^DvPX")))
INK = "#010203"  # a placeholder for the page's text colour
FONT = "DejaVu Sans"  # matplotlib's own, which is wide: a page's font has room
LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": FONT,
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "axes.prop_cycle": STYLES,
    "lines.markerfacecolor": "none",  # transparent
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "legend.frameon": False,
    "legend.fontsize": 8,
}

Points = Mapping[int, float] | Mapping[float, float]


@dataclass(frozen=True)
class Plot:
    """A plot on logarithmic axes: a name for its file, what it shows in a sentence, and its curves, y by x.

    ``sizes`` are what x is marked at, where it is not marked as usual.
    """

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    curves: Mapping[str, Points]
    sizes: tuple[int, ...] = ()

    @property
    def inline(self) -> str:
        """For a page: in the page's own text colour, with the title as the text alternative."""
        _, _, drawing = self._svg.partition("<svg")
        return f'<svg role="img" aria-label="{self.title}"{drawing.replace(INK, "currentColor")}'

    @property
    def file(self) -> str:
        """For a file of its own: dark on white, whatever surrounds it."""
        white = '<rect width="100%" height="100%" fill="#fff"/><defs>'
        return self._svg.replace(INK, "#1a1a1a").replace("<defs>", white, 1)

    @cached_property
    def _svg(self) -> str:
        # Parts of several plots on one page must not share a name: they are hashed with this one's.
        with mpl.rc_context({**LOOK, "svg.hashsalt": self.name}):
            figure = Figure(figsize=(4.8, 3.9), layout="constrained")  # inches, the width of a narrow screen
            axes = figure.subplots()
            for label, curve in self.curves.items():
                axes.plot(list(curve), list(curve.values()), label=label)
            axes.loglog()
            for axis in (axes.xaxis, axes.yaxis):
                low, high = axis.get_view_interval()
                if high < 10 * low:  # within a decade there is hardly a power of ten to label
                    axis.set_major_locator(MaxNLocator(4))
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.set_minor_formatter(NullFormatter())
            if self.sizes:
                axes.set_xticks(self.sizes)
                axes.xaxis.set_minor_locator(NullLocator())
            axes.set(xlabel=self.x_label, ylabel=self.y_label)
            figure.legend(loc="outside lower center", ncols=2)
            written = io.StringIO()
            figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Title": self.title})
        return written.getvalue().replace(f"'{FONT}'", "system-ui, sans-serif")


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

    timed, found = (results.where(part="error", quantity=q) for q in (Quantity.PAIRED_NS, Quantity.ERROR))
    for dtype in ERROR_DTYPES:
        caption = f"Every kernel in {dtype}: left is faster, down is more exact."
        both = [(t, e) for t, e in zip(timed, found, strict=True) if t.case.dtype == dtype and t.values and e.values]
        points = {t.subject: {_middle(t.values): e.values[0]} for t, e in both}
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
