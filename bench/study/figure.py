"""How a plot of the report looks: colours, markers, text in the colour of the page, and names that do not overlap."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

# Okabe and Ito's colours, which colour-blind readers can tell apart; black is left to the text.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":")
INK = "#010203"  # stands for the page's text colour, which is put in its place
FONT = "DejaVu Sans"  # what comes with matplotlib, and is wide: text set in another font has room
STEPS = sorted(range(-40, 41), key=abs)  # where a name may go, in units of 5 points above its point
SIZE = (4.8, 3.9)  # inches: one column of the page, and as wide as a narrow screen


@dataclass(frozen=True)
class Plot:
    """A finished plot: a name for its file, a title, what it shows in a sentence, and its SVG."""

    name: str
    title: str
    caption: str
    svg: str

    @property
    def inline(self) -> str:
        """For a page: in the page's own text colour, with the caption as the text alternative."""
        start = self.svg.index("<svg")
        described = f'<svg role="img" aria-label="{self.title}"'
        return described + self.svg[start + len("<svg") :].replace(INK, "currentColor")

    @property
    def file(self) -> str:
        """For a file of its own: dark on white, whatever surrounds it."""
        return self.svg.replace(INK, "#1a1a1a").replace(
            "<defs>", '<rect width="100%" height="100%" fill="#fff"/><defs>', 1
        )


def styles() -> Iterator[dict[str, Any]]:
    """A look for each subject: colours and markers first, then other lines; thinner and thinner, so none is hidden."""
    looks = ((line, colour, marker) for line in cycle(LINES) for colour, marker in zip(COLOURS, MARKERS, strict=True))
    for i, (line, colour, marker) in enumerate(looks):
        thin = 0.85**i
        width, size = 0.8 + 2.4 * thin, 3 + 6 * thin
        yield {"color": colour, "marker": marker, "linestyle": line, "linewidth": width, "markersize": size}


def paint_plot(name: str, title: str, caption: str, paint: Callable[[Axes], None]) -> Plot:
    look: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # parts of several plots on one page must not share a name
        "font.family": FONT,
        "font.size": 9,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": INK,
        "grid.alpha": 0.12,
        "legend.frameon": False,
        "legend.fontsize": 8,
    }
    with mpl.rc_context(look):
        figure = Figure(figsize=SIZE, layout="constrained")
        paint(figure.subplots())
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    return Plot(name, title, caption, written.getvalue().replace(f"'{FONT}'", "system-ui, sans-serif"))


def legend_below(axes: Axes, columns: int = 2) -> None:
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def sizes_below(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()


def logarithmic(axes: Axes, *, x: bool = False) -> None:
    """Make the y axis logarithmic, or both, with plain figures; called when all is drawn."""
    axes.set_yscale("log")
    if x:
        axes.set_xscale("log")
    for axis in (axes.yaxis, axes.xaxis) if x else (axes.yaxis,):
        low, high = axis.get_view_interval()
        if high < 10 * low:  # within a decade there is hardly a power of ten to label
            axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def label_points(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each point's name beside it, moved up or down until it overlaps nothing, with a thin line where moved."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    middle = axes.bbox.x0 + axes.bbox.width / 2
    at = [axes.transData.transform(point) for point in points.values()]
    taken: list[Any] = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in at]  # no name on a point or on another name
    for name, point in sorted(points.items(), key=lambda item: item[1][1]):
        left = axes.transData.transform(point)[0] < middle
        for step in STEPS:
            text = axes.annotate(
                name,
                point,
                xytext=(9 if left else -9, 5 * step),
                textcoords="offset points",
                fontsize=8,
                va="center",
                ha="left" if left else "right",
                arrowprops={"arrowstyle": "-", "color": INK, "alpha": 0.4, "linewidth": 0.6} if step else None,
            )
            text.get_window_extent()  # settles its position; with the line, which may cross what it likes
            box = Text.get_window_extent(text).padded(1.5)
            if step == STEPS[-1] or not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        taken.append(box)
