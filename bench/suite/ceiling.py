"""Measures the machine's ceiling: the speed of a large matrix product, and of a copy larger than the caches."""

import time
from collections.abc import Callable, Iterable

import torch

from ..plain.execution import Ceiling, Cost
from ..timing.clock import Clock, Stopwatch
from .cases import DTYPES

SECONDS = 0.06  # for each measurement, at least; the fastest call counts
MATRIX_SIZE = {"cpu": 512, "cuda": 4096}
COPY_BYTES = {"cpu": 64 << 20, "cuda": 512 << 20}


def ceilings(works: Iterable[Cost], clock_of: Callable[[str], Stopwatch] = Clock.of) -> tuple[Ceiling, ...]:
    """Measure the ceiling of every dtype and device that occurs in the works, with the threads torch has now.

    A kernel of any dtype may compute in float32, so the ceiling is the faster of both matrix products.
    """
    kinds = dict.fromkeys((work.dtype, work.device) for work in works)
    devices = dict.fromkeys(device for _, device in kinds)
    wide = {device: _product_flops_per_s("fp32", device, clock_of(device)) for device in devices}
    found = []
    for dtype, device in kinds:
        clock = clock_of(device)
        own = wide[device] if dtype == "fp32" else _product_flops_per_s(dtype, device, clock)
        copied = _copy_bytes_per_s(dtype, device, clock)
        found.append(Ceiling(dtype, device, torch.get_num_threads(), max(own, wide[device]), copied))
    return tuple(found)


@torch.no_grad()
def _product_flops_per_s(dtype: str, device: str, clock: Stopwatch) -> float:
    n = MATRIX_SIZE[device]
    a, b = (torch.randn(n, n, device=device).to(DTYPES[dtype]) for _ in range(2))
    product = torch.empty_like(a)
    return 2 * n**3 / _fastest_s(lambda: torch.mm(a, b, out=product), clock)


@torch.no_grad()
def _copy_bytes_per_s(dtype: str, device: str, clock: Stopwatch) -> float:
    size = COPY_BYTES[device]
    source = torch.ones(size // DTYPES[dtype].itemsize, dtype=DTYPES[dtype], device=device)
    target = torch.empty_like(source)
    return 2 * size / _fastest_s(lambda: target.copy_(source), clock)  # read once, written once


def _fastest_s(call: Callable[[], object], clock: Stopwatch) -> float:
    call()
    fastest, end = float("inf"), time.monotonic() + SECONDS
    while fastest == float("inf") or time.monotonic() < end:
        clock.synchronize()
        start_ns = clock.now_ns()
        call()
        clock.synchronize()
        fastest = min(fastest, (clock.now_ns() - start_ns) * 1e-9)
    return max(fastest, 1e-9)
