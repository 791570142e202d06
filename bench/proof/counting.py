"""Shares of trials with their exact intervals."""

from scipy.stats import binomtest


def share(count: int, total: int) -> str:
    """Write a share with its exact (Clopper-Pearson) 95% interval."""
    if total == 0:
        return "none tried"
    shown, low, high = (f"{100 * value:.4g}%" for value in (count / total, *proportion(count, total)))
    return f"{count} of {total} = {shown} [{low}, {high}]"


def proportion(count: int, total: int) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson 1934) 95% interval of a share."""
    interval = binomtest(count, total).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)
