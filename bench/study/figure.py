"""How a plot of the report looks: colours, markers, axes, and text in the colour of the page."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

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
    curves: Mapping[str, Mapping[int, float] | Mapping[float, float]]
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
