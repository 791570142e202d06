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
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..cases import Row, matrix, supported_ids
from ..checking.calls import execute
from ..checking.compilation import counters
from ..checking.fingerprint import fingerprint
from ..plain.errors import CannotDo
from ..sides.reach import watch_files
from ..sides.side import Side, base_side, head_side
from ..sides.source import Source
from ..sides.what import What
from ..sides.workload import Call, Workload, bind
from .clock import Clock
from .environment import present_devices, steady_allocator


class Worker:
    """The side that is loaded, and the case at hand."""

    def __init__(self) -> None:
        self._resources = ExitStack()
        self._read: list[str] = []
        self._side: Side
        self._workload: Workload
        self._given: list[torch.Tensor]
        self._call: Call

    def start(  # noqa: PLR0917  # commands are sent by position
        self, label: str, source: Source, what: What, threads: int, cores: list[int], repository: Path | None = None
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """Fix the machine's settings and load the side; returns its versions, and what its import changed in torch.

        If a repository is given, the files that are read from it are noted.
        """
        if cores:  # empty where the system cannot bind a process to cores
            os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
        allocator = steady_allocator()
        if repository is not None:
            self._read = watch_files(repository, Path(tempfile.gettempdir()))
        devices = present_devices()
        if source.names:
            home = Path(tempfile.gettempdir())  # ``remote`` gives all processes of a run the same
            opened = base_side(source, label, what=what, devices=devices, alone=True, home=home)
            self._side = self._resources.enter_context(opened)
        else:
            self._side = head_side(what, devices, label)  # the packages that the interpreter has installed
        versions = {"python": platform.python_version(), "torch": torch.__version__, "malloc": allocator}
        return versions, self._side.changed

    def supported(self, tier: str, devices: tuple[str, ...], rows: tuple[Row, ...]) -> frozenset[str]:
        """Return the ids of the cases that the side can run."""
        return frozenset(supported_ids(matrix(self._side.kernels, self._side.modules, tier, devices, rows)))

    def take(self, path: Path) -> None:
        """Take up the case whose workload is in a file."""
        gc.collect()
        self._workload = torch.load(path, weights_only=False)  # our own file, read by our own worker
        torch.set_grad_enabled(self._workload.case.backward)
        self._given = self._workload.snapshot()
        self._call = bind(self._workload, self._side)

    def check(self) -> tuple[bytes, Any]:
        """Run the case for its results, its fingerprint, and the comparison of its calls."""
        results, print_ = execute(self._call, self._workload)
        return _packed(results), print_

    def testify(self) -> tuple[bytes, Any]:
        """Run the case for its results, and once more for what it executes."""
        call, before = self._call, counters()
        with call.view:
            results = call.results()
            compiled = counters().since(before)
            backward = call.differentiate if call.backward else None
            print_ = fingerprint(call.forward, backward, device=self._workload.case.device, compiled=compiled)
        return _packed(results), print_

    def burst(self, calls: int) -> float:
        """Call once untimed, since another process had the caches, then time so many calls; returns ns per call."""
        with self._call.view:
            self._call()
            return Clock.of(self._workload.case.device).burst(self._call, calls)

    def read(self) -> list[str]:
        """List the files of the repository that were read and are not the side's own."""
        return sorted(set(self._read))

    def wrote(self) -> bool:
        """Whether the inputs are no longer what they were when the case was taken up."""
        return self._workload.differs_from(self._given)


def _packed(results: Mapping[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: tensor.cpu() for name, tensor in results.items()}, buffer)
    return buffer.getvalue()


def serve(commands: BinaryIO, answers: BinaryIO) -> None:
    """Obey until there are no more commands."""
    worker = Worker()
    while True:
        try:
            name, arguments = pickle.load(commands)  # noqa: S301  # from the process that started this one
        except EOFError:
            return
        try:
            answer = ("done", getattr(worker, name)(*arguments))
        except CannotDo as error:
            answer = ("failed", f"cannot be loaded: {error}")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the parent judges it
            answer = ("failed", f"raised {type(error).__name__}: {error}")
        pickle.dump(answer, answers, protocol=4)
        answers.flush()


def main() -> None:
    """Serve the pipes whose numbers are on the command line.

    Answers have a channel of their own, so that what a kernel or an interpreter prints is not taken for one.
    """
    with os.fdopen(int(sys.argv[1]), "rb") as commands, os.fdopen(int(sys.argv[2]), "wb") as answers:
        serve(commands, answers)
