"""Bytes of tensors that stay alive when a call is done and its results are gone."""

import gc
import time
from collections.abc import Callable
from typing import Any

import torch

from .op_trace import OpTrace
from .profiling import profiled

CALLS = 8  # to warm up, and as many to measure
SLOW_S = 0.05  # a call that takes longer is made less often
SLOW_CALLS = 2

Grown = Callable[[Callable[[], object]], int]  # makes a call; returns by how much the bytes alive have grown


def kept(call: Callable[[], object], grown: Grown) -> tuple[int | None, int | None]:
    """Return the bytes that each call keeps alive, and those that only the first calls keep; None where there are none.

    It takes many calls, so it is for a side that was seen to keep some.
    """

    def several(calls: int) -> Callable[[], object]:
        def work() -> None:
            for _ in range(calls):
                call()
            gc.collect()

        return work

    start_s = time.monotonic()
    first = grown(call)
    calls = CALLS if time.monotonic() - start_s < SLOW_S else SLOW_CALLS
    settled = first + grown(several(calls))
    each = grown(several(calls)) // calls
    return (each, None) if each > 0 else (None, settled if settled > 0 else None)


def garbage(recorder: OpTrace) -> int | None:
    """Collect garbage; returns the bytes that a watched call had left to it, None where there are none."""
    if not (left := recorder.live_bytes):
        return None
    gc.collect()
    return left - recorder.live_bytes or None


def counting(*, on_gpu: bool, compiled: bool = False) -> Grown:
    """Return the way to count the bytes of tensors that calls of some code leave alive."""
    return by_device if on_gpu else by_profile if compiled else by_tensors()


def by_tensors() -> Grown:
    """Count the tensors of code that is not compiled, as ``OpTrace`` sees them."""
    recorder = OpTrace()

    def grown(work: Callable[[], object]) -> int:
        before = recorder.live_bytes
        with recorder.watching():
            work()
        return recorder.live_bytes - before

    return grown


def by_profile(work: Callable[[], object]) -> int:
    """Count the bytes that the CPU's allocator handed out and did not get back."""
    with profiled() as profile:
        work()
    events: Any = profile.profiler.kineto_results.events()  # type: ignore[union-attr]  # it has ended
    return sum(event.nbytes() for event in events if event.name() == "[memory]")


def by_device(work: Callable[[], object]) -> int:
    """Count the bytes that CUDA's allocator has handed out."""
    before = torch.cuda.memory_allocated()
    work()
    return torch.cuda.memory_allocated() - before
