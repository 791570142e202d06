"""One side of a comparison in a process of its own: obeys the commands that ``remote`` sends through a pipe.

It runs under any interpreter that has torch, with the packages installed there. Commands and replies are pickled:
``(method, arguments)`` in, ``("done", value)`` or ``("failed", text)`` out.
"""

import gc
import io
import os
import pickle
import platform
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..checking.calls import execute
from ..plain.errors import CannotDo
from ..sides.side import Side, base_side
from ..sides.source import Source
from ..sides.workload import Call, Workload, bind
from .clock import Clock
from .environment import steady_allocator


class Worker:
    """The side that is loaded, and the case at hand."""

    def __init__(self) -> None:
        self._resources = ExitStack()
        self._side: Side
        self._workload: Workload
        self._given: list[torch.Tensor]
        self._call: Call

    def start(self, label: str, source: Source, threads: int, cores: list[int]) -> dict[str, str]:
        """Hold the process still, load the side, and say what runs it."""
        if cores:  # none where the system cannot hold a process to some
            os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
        allocator = steady_allocator()
        gc.disable()
        base = self._resources.enter_context(base_side(source))
        self._side = replace(base, label=label)
        return {"python": platform.python_version(), "torch": torch.__version__, "malloc": allocator}

    def take(self, path: Path) -> None:
        """Take up the case whose workload is in a file."""
        gc.collect()
        self._workload = torch.load(path, weights_only=False)  # our own file, read by our own worker
        torch.set_grad_enabled(self._workload.case.backward)
        self._given = self._workload.snapshot()
        self._call = bind(self._workload, self._side)

    def check(self) -> tuple[bytes, Any]:
        """Run the case for its results, for its fingerprint, and to compare its calls."""
        results, fingerprint = execute(self._call, self._workload)
        buffer = io.BytesIO()
        torch.save({name: tensor.cpu() for name, tensor in results.items()}, buffer)
        return buffer.getvalue(), fingerprint

    def burst(self, calls: int) -> float:
        """Call once untimed, since another process had the caches, then time so many calls; returns ns per call."""
        with self._call.view:
            self._call()
            return Clock.of(self._workload.case.device).burst(self._call, calls)

    def wrote(self) -> bool:
        """Whether the inputs are no longer what they were when the case was taken up."""
        return self._workload.differs_from(self._given)


def serve(commands: BinaryIO, replies: BinaryIO) -> None:
    """Obey until there are no more commands."""
    worker = Worker()
    while True:
        try:
            name, arguments = pickle.load(commands)  # noqa: S301  # from the process that started this one
        except EOFError:
            return
        try:
            reply = ("done", getattr(worker, name)(*arguments))
        except CannotDo as error:
            reply = ("failed", f"cannot be loaded: {error}")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # it is the parent's to judge
            reply = ("failed", f"raised {type(error).__name__}: {error}")
        pickle.dump(reply, replies, protocol=4)
        replies.flush()


if __name__ == "__main__":
    with os.fdopen(os.dup(0), "rb") as stdin, os.fdopen(os.dup(1), "wb") as stdout:
        os.dup2(2, 1)  # what a kernel prints is no reply
        sys.stdin.close()
        serve(stdin, stdout)
