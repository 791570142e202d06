"""Watches compiled code by torch.profiler, which sees what a dispatch mode cannot: buffers of generated kernels."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from ..plain.execution import Pass


@contextmanager
def profiled(*, cuda: bool = False) -> Iterator[profile]:
    """Profile what runs inside, without the notes that the profiler writes to the terminal."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    before = os.environ.get("KINETO_LOG_LEVEL")
    os.environ["KINETO_LOG_LEVEL"] = "99"
    try:
        with profile(activities=activities, profile_memory=True, acc_events=True) as active:  # else it warns
            yield active
    finally:
        if before is None:
            del os.environ["KINETO_LOG_LEVEL"]
        else:
            os.environ["KINETO_LOG_LEVEL"] = before


def launches(call: Callable[[], object]) -> dict[str, int]:
    """Make a call and say what the GPU was given to do: kernels, copies and fillings by name, with counts."""
    torch.cuda.synchronize()
    with profiled(cuda=True) as profile:
        call()
        torch.cuda.synchronize()
    return launched(profile.events() or ())


def launched(events: Iterable[Any]) -> dict[str, int]:
    """Count a device's own events among those of a profile; ranges that somebody marked are none."""
    names = [e.name for e in events if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    return dict(sorted(Counter(names).items()))


class ProfileTrace:
    """Notes ops and bytes as ``OpTrace`` does, a profile a pass; the bytes are the allocator's own account.

    They include what a kernel takes from the allocator inside of one op, and so depend on the number of threads.
    """

    def __init__(self) -> None:
        self._live_bytes = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        with profiled() as self._profile:
            yield

    def end_pass(self) -> Pass:
        """Return what ran since the last pass ended, or since the beginning; what is alive stays so."""
        ops: Counter[str] = Counter()
        peak, allocated = self._live_bytes, 0
        events: Any = self._profile.profiler.kineto_results.events()  # type: ignore[union-attr]  # it has ended
        for event in events:
            if event.name() == "[memory]":
                size = event.nbytes()  # below zero where it was freed
                self._live_bytes += size
                peak = max(peak, self._live_bytes)
                allocated += max(0, size)
            elif event.name().startswith("aten::"):
                ops[event.name().replace("::", ".")] += 1
        return Pass(dict(sorted(ops.items())), peak, allocated)
