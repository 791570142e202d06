"""What else the machine did during the run: other processes, a hypervisor that took time, a throttled clock."""

import os
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil

from .evidence import Load


class _Seconds(NamedTuple):
    """Readings of monotonic clocks, in seconds; of cores, summed over all of them."""

    wall: float
    busy: float
    own: float
    stolen: float


def _now() -> _Seconds:
    machine, own = psutil.cpu_times(), psutil.Process().cpu_times()
    busy = machine.user + machine.system + getattr(machine, "nice", 0.0)
    return _Seconds(time.monotonic(), busy, own.user + own.system, getattr(machine, "steal", 0.0))


@dataclass(frozen=True)
class LoadMeter:
    """Made when the run starts; ``read`` says what the machine did since."""

    start: _Seconds = field(default_factory=_now)

    def read(self) -> Load:
        now = _now()
        elapsed = max(1e-9, now.wall - self.start.wall)
        others = (now.busy - self.start.busy) - (now.own - self.start.own)
        clock = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
        return Load(
            cores=os.cpu_count() or 1,
            other_cores=max(0.0, others / elapsed),
            stolen_cores=max(0.0, (now.stolen - self.start.stolen) / elapsed),
            clock_share=clock.current / clock.max if clock is not None and clock.max > 0 else None,
        )
