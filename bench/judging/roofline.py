"""The speed that a case achieves, beside the machine's ceiling (Williams, Waterman and Patterson 2009). Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ..plain.execution import Ceiling, Cost


@dataclass(frozen=True)
class Achieved:
    """The speed of the head's code on one case; ``share`` is the time that the roofline allows over the time it took.

    ``bound`` says what limits the speed, ``flops`` or ``bytes``. A case that fits into the caches can move more bytes a
    second than the copy that measures the ceiling, which does not fit.
    """

    gflops_per_s: float
    gbytes_per_s: float
    share: float | None  # None where no ceiling was measured
    bound: str | None = None


def achieved(work: Cost | None, ns_per_call: float | None, ceilings: Iterable[Ceiling]) -> Achieved | None:
    """Compare a time per call with its work and the ceiling of its dtype and device; None where it was not timed."""
    if work is None or ns_per_call is None:
        return None
    speeds = work.flops / ns_per_call, work.moved_bytes / ns_per_call  # per ns: 1e9 a second
    for ceiling in ceilings:
        if (ceiling.dtype, ceiling.device) == (work.dtype, work.device):
            flops_ns = work.flops / ceiling.flops_per_s * 1e9
            bytes_ns = work.moved_bytes / ceiling.bytes_per_s * 1e9
            bound = "flops" if flops_ns >= bytes_ns else "bytes"
            return Achieved(*speeds, max(flops_ns, bytes_ns) / ns_per_call, bound)
    return Achieved(*speeds, None)


def summary(timed: Iterable[tuple[Cost | None, float | None]], ceilings: Sequence[Ceiling]) -> str | None:
    """Say in one line what the ceilings are, and which share the median case reached; None without a ceiling.

    ``timed`` holds each case's work and time per call in ns.
    """
    speeds = [achieved(work, ns, ceilings) for work, ns in timed]
    shares = sorted(speed.share for speed in speeds if speed is not None and speed.share is not None)
    if not shares:
        return None
    limits = ", ".join(
        f"{c.device} {c.dtype} {c.flops_per_s / 1e9:.4g} GFLOP/s {c.bytes_per_s / 1e9:.4g} GB/s" for c in ceilings
    )
    return f"ceiling, measured: {limits}; the median case reached {median(shares):.0%} of its own"
