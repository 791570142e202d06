"""``python -m bench.study.fresh SUBJECT CASE DEVICE CALLS THREADS``: time the first calls of this process, as JSON."""

import json
import sys

import torch

from ..timing.clock import Clock
from ..timing.environment import steady_allocator
from .subjects import Subjects, parse


def main(subject: str, case: str, device: str, calls: int, threads: int) -> None:
    """Make the call, then print the ns of the first, second, ... time it is made."""
    torch.set_num_threads(threads)
    steady_allocator()
    clock = Clock.of(device)
    with torch.no_grad():
        call = Subjects().call(subject, parse(case, device))
        print(json.dumps([clock.burst(call, 1) for _ in range(calls)]))


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:6]))  # type: ignore[arg-type]  # five words, by the docstring
