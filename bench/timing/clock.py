"""Stopwatches: they time a burst of calls on the host, or on a GPU, which works on a queue."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch

from ..plain.printable import counted
from .cuda import Cuda, Device

EVENT_RESOLUTION_NS = 500.0  # of a CUDA event, as the CUDA runtime documents it
SLOW_CLOCK = 0.75  # of the default clock; below, a burst is taken again, as nvbench does
RETAKES = 10  # at most
RECOVERY_S = 0.05  # before a burst is taken again
PATIENCE_NS = 2_000_000  # with a burst of the host's time, most of which is the device's work


class Stopwatch(Protocol):
    """What the measuring loop needs of a device's clock; the loop and the rule are the same on every device."""

    @property
    def resolution_ns(self) -> float:
        """The smallest difference in time that it can tell."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about the measuring so far, a sentence each."""

    def now_ns(self) -> int:
        """Read the host's time, against which budgets are held."""

    def synchronize(self) -> None:
        """Wait for queued work."""

    def burst(self, call: Callable[[], object], calls: int) -> float:
        """Time so many calls, with the work that they queue and without work queued before; returns ns per call."""


@dataclass(frozen=True)
class Clock:
    """The host's clock, or what stands in for it: read after it has waited for queued work. Inputs are hot."""

    now_ns: Callable[[], int]
    synchronize: Callable[[], None]
    resolution_ns: float = 1.0
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(device: str) -> Stopwatch:
        """Return the stopwatch of a device type."""
        return _cuda_clock() if device == "cuda" else _host_clock()

    def burst(self, call: Callable[[], object], calls: int) -> float:
        self.synchronize()
        start_ns = self.now_ns()
        for _ in range(calls):
            call()
        self.synchronize()
        return (self.now_ns() - start_ns) / calls


@dataclass
class CudaClock:
    """Events in the GPU's own queue, around each call by itself.

    The L2 cache is overwritten before each call, so inputs are cold, and so that the host is ahead with queueing when
    the call starts. A burst during which the GPU was throttled is taken again; its clock is never locked.
    """

    device: Device
    sleep: Callable[[float], None] = time.sleep
    now_ns: Callable[[], int] = time.perf_counter_ns
    retaken: int = 0
    kept: int = 0  # although throttled, after ``RETAKES``
    resolution_ns: float = EVENT_RESOLUTION_NS

    @property
    def notes(self) -> tuple[str, ...]:
        notes = []
        if self.device.clock_share() is None:
            notes.append("nothing watched whether the GPU was throttled: pip install nvidia-ml-py")
        if self.retaken:
            notes.append(
                f"the GPU's clock fell below {SLOW_CLOCK:.0%} of its default: {counted(self.retaken, 'burst')} taken "
                f"again and {self.kept} kept all the same: let it cool, or raise its power limit"
            )
        return tuple(notes)

    def synchronize(self) -> None:
        self.device.synchronize()

    def burst(self, call: Callable[[], object], calls: int) -> float:
        for _ in range(RETAKES):
            ns, clock_share = self._take(call, calls)
            if clock_share is None or clock_share >= SLOW_CLOCK:
                return ns
            self.retaken += 1
            self.sleep(RECOVERY_S)
        ns, clock_share = self._take(call, calls)
        self.kept += clock_share is not None and clock_share < SLOW_CLOCK
        return ns

    def _take(self, call: Callable[[], object], calls: int) -> tuple[float, float | None]:
        """Take a burst; returns ns per call, and the clock's share of its default while the GPU was at work."""
        spans = [(self.device.event(), self.device.event()) for _ in range(calls)]
        self.device.synchronize()
        for start, end in spans:
            self.device.flush()
            start.record()
            call()
            end.record()
        clock_share = self.device.clock_share()
        self.device.synchronize()
        return sum(start.elapsed_time(end) for start, end in spans) * 1e6 / calls, clock_share


@dataclass(frozen=True)
class LaunchClock:
    """The host's time to make calls that a device works on: it waits for an empty queue before each call.

    A burst has fewer calls than it is asked for where waiting takes longer than ``PATIENCE_NS``.
    """

    device: Stopwatch
    resolution_ns: float = 1.0

    @property
    def notes(self) -> tuple[str, ...]:
        return self.device.notes

    def now_ns(self) -> int:
        return self.device.now_ns()

    def synchronize(self) -> None:
        self.device.synchronize()

    def burst(self, call: Callable[[], object], calls: int) -> float:
        taken_ns, made, start_ns = 0, 0, self.now_ns()
        while made < calls and (not made or self.now_ns() - start_ns < PATIENCE_NS):
            self.synchronize()
            called_ns = self.now_ns()
            call()
            taken_ns += self.now_ns() - called_ns
            made += 1
        self.synchronize()
        return taken_ns / made


@cache
def _host_clock() -> Clock:
    return Clock(time.perf_counter_ns, lambda: None, time.get_clock_info("perf_counter").resolution * 1e9)


@cache
def _cuda_clock() -> CudaClock:
    assert torch.cuda.is_available()  # cases are of present devices
    return CudaClock(Cuda())
