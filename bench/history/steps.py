"""Change points by Apache Otava, an optional dependency that no other file knows. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

from .trends import Finder

INSTALL = "pip install '.[history]', best in an environment of its own, since Apache Otava pins numpy and scipy"


@dataclass(frozen=True)
class Otava:
    """E-divisive means with a t-test (Matteson and James 2014; Fleming et al. 2023, "Hunter"), as Otava does it."""

    series: Any  # the module otava.series
    name: str

    def __call__(self, values: Sequence[float], *, min_change: float, max_pvalue: float) -> list[tuple[int, float]]:
        options = self.series.AnalysisOptions()
        options.min_magnitude, options.max_pvalue = min_change, max_pvalue
        metrics = {"ns": self.series.Metric(direction=-1)}
        series = self.series.Series("case", None, list(range(len(values))), metrics, {"ns": list(values)}, {})
        return [(int(c.index), float(c.pvalue())) for c in series.analyze(options).change_points["ns"]]


def otava() -> Finder | None:
    """Return Otava's change points if it is installed."""
    try:
        module = import_module("otava.series")
    except ModuleNotFoundError:
        return None
    return Otava(module, f"Apache Otava {version('apache-otava')}")
