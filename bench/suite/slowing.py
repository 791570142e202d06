"""Makes calls on a GPU take longer by a known share, for the self-test; on a CPU, ``bursts.stretched`` does."""

from collections.abc import Callable

import torch

from ..timing.clock import Stopwatch
from ..twins.bursts import SPINNING

CYCLES = 1_000_000  # of a GPU's clock, to learn how long one takes


def slowed_on_gpu(call: Callable[[], object], share: float, clock: Stopwatch) -> Callable[[], None]:
    """Make a call's work on a GPU take longer by a share: a kernel that waits is queued behind it, on both sides."""
    waits: Callable[[int], None] = torch.cuda._sleep  # noqa: SLF001  # torch's tests use it so
    ns_per_cycle = min(clock.burst(lambda: waits(CYCLES), 1) for _ in range(3)) / CYCLES
    of_call_ns = min(clock.burst(call, 3) for _ in range(3))
    cycles = round(of_call_ns * ((1 + SPINNING) * (1 + share) - 1) / ns_per_cycle)

    def taking_longer() -> None:
        call()
        waits(cycles)

    return taking_longer
