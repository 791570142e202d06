"""What else the machine did during the run: other processes, a hypervisor that took time, a throttled clock."""

import os
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil

from ..plain.evidence import Load


class _Seconds(NamedTuple):
    """Readings of monotonic clocks, in seconds; those of cores are summed over all cores."""

    wall: float
    busy: float
    own: float
    stolen: float


def _now() -> _Seconds:
    machine, this = psutil.cpu_times(), psutil.Process()
    own = sum(map(_seconds_of, (this, *this.children(recursive=True))))
    busy = machine.user + machine.system + getattr(machine, "nice", 0.0)
    return _Seconds(time.monotonic(), busy, own, getattr(machine, "steal", 0.0))


def _seconds_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # it has ended
        return 0.0
    # Of what has ended, the process that waited for it has the times.
    return times.user + times.system + getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)


@dataclass(frozen=True)
class LoadMeter:
    """Measures from when it is made; ``read`` says what else the machine has done since."""

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
