"""``python -m bench.study.fresh SUBJECT CASE DEVICE CALLS THREADS``: time the first calls of this process, as JSON."""

import json
import sys

import torch

from ..timing.clock import Clock
from ..timing.environment import steady_allocator
from .subjects import call, case_of


def main(subject: str, case: str, device: str, calls: str, threads: str) -> None:
    """Make the call, then print the ns of the first, second, ... time it is made."""
    torch.set_num_threads(int(threads))
    steady_allocator()
    clock = Clock.of(device)
    with torch.no_grad():
        work = call(case_of(subject, case, device))
        print(json.dumps([clock.burst(work, 1) for _ in range(int(calls))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
