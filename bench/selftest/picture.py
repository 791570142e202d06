"""Draws a self-test: the noise of one pair, and the share of slowdowns caught by size."""

from collections import defaultdict
from io import BytesIO
from math import log
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..judging.statistics import median
from ..judging.verdict import Verdict
from ..plain.files import write_atomically
from .findings import Findings, proportion

FORMATS = (".svg", ".png")


def draw(findings: Findings, path: Path) -> None:
    """Draw into a file of one of the formats."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)

    spread = sorted(noise(findings).values())
    left.hist([100 * value for value in spread], bins=20, color="#0072b2")
    left.set_xlabel("noise of one pair: scaled MAD of log(head/base), %")
    left.set_ylabel("cases")
    left.set_title(f"Noise of {len(spread)} cases, unchanged code")

    alarms = sum(run.counts[Verdict.REGRESSED] for run in findings.unchanged)
    counted = {0.0: (alarms, len(findings.unchanged) * findings.cases)}
    counted |= {size: counts for (kind, size), counts in sorted(findings.caught().items()) if kind == "slowdown"}
    shares = [caught / tried for caught, tried in counted.values()]
    beyond = np.abs(np.array([proportion(*counts) for counts in counted.values()]).T - shares)  # (2, sizes)
    right.errorbar(
        [100 * size for size in counted], shares, yerr=beyond, fmt="o-", capsize=4, color="#0072b2", label="this gate"
    )
    right.axvline(100 * findings.policy.threshold, linestyle=":", color="black", label="threshold")
    right.set_xlabel("slowdown injected into one case, %")
    right.set_ylabel("share caught (95% exact interval)")
    right.set_ylim(-0.05, 1.05)
    right.set_title("Power")
    right.legend(loc="lower right")
    drawn = BytesIO()
    figure.savefig(drawn, format=path.suffix[1:])
    write_atomically(path, drawn.getvalue())


def noise(findings: Findings) -> dict[str, float]:
    """The scaled median absolute deviation of one pair's log-ratio, by case, over all unchanged runs."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for result in (r for run in findings.unchanged for r in run.results if r.ratio is not None):
        centre = log(result.ratio or 1.0)
        ratios[result.id] += [abs(p.log_ratio - centre) for m in result.measurements for p in m.pairs]
    return {case: 1.4826 * median(sorted(values)) for case, values in ratios.items()}
