"""Draws a self-test: the noise of one pair, and the share of slowdowns caught by size."""

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from ..judging.verdict import Verdict
from ..plain.files import write_atomically
from .counting import proportion
from .findings import Findings, noise

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

    sizes, shares, low, high = [], [], [], []
    alarms = [
        (0.0, sum(run.count(Verdict.REGRESSED) for run in findings.unchanged), len(findings.unchanged) * findings.cases)
    ]
    slowed = [(size, *counts) for (kind, size), counts in sorted(findings.caught().items()) if kind == "slowdown"]
    for size, caught, tried in alarms + slowed:
        ends = proportion(caught, tried)
        sizes.append(100 * size)
        shares.append(caught / tried)
        low.append(caught / tried - ends[0])
        high.append(ends[1] - caught / tried)
    right.errorbar(sizes, shares, yerr=[low, high], fmt="o-", capsize=4, color="#0072b2", label="this gate")
    right.axvline(100 * findings.policy.threshold, linestyle=":", color="black", label="threshold")
    right.set_xlabel("slowdown injected into one case, %")
    right.set_ylabel("share caught (95% exact interval)")
    right.set_ylim(-0.05, 1.05)
    right.set_title("Power")
    right.legend(loc="lower right")
    drawn = BytesIO()
    figure.savefig(drawn, format=path.suffix[1:])
    write_atomically(path, drawn.getvalue())
