"""Change points by Apache Otava, an optional dependency that no other file knows. Pure."""

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from .trends import MIN_CHANGE, Finder

INSTALL = "pip install '.[history]', best in an environment of its own, since Apache Otava pins numpy and scipy"


def otava() -> tuple[str, Finder] | None:
    """Return Otava's name and its change points, if it is installed.

    It uses E-divisive means with a t-test (Matteson and James 2014; Fleming et al. 2023, "Hunter").
    """
    try:
        analysis = import_module("otava.series")
    except ModuleNotFoundError:
        return None

    def find(values: Sequence[float], max_pvalue: float) -> dict[int, float]:
        options = analysis.AnalysisOptions()
        options.min_magnitude, options.max_pvalue = MIN_CHANGE, max_pvalue
        metrics = {"ns": analysis.Metric(direction=-1)}
        series = analysis.Series("case", None, list(range(len(values))), metrics, {"ns": list(values)}, {})
        return {int(point.index): float(point.pvalue()) for point in series.analyze(options).change_points["ns"]}

    return f"Apache Otava {version('apache-otava')}", find
