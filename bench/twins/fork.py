"""The server that forks every process of a run from one image. Needs no torch.

An image is what the server imports once: the gate's own modules and, where benchmarks use it, torch. No thread is
started there and no GPU is touched, since neither survives a fork.
"""

import gc
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection, Pipe
from types import ModuleType
from typing import Any

from ..plain.errors import CannotDo
from ..sources.target import SUITE
from ..timing.machine import steady_allocator, thread_limits
from .party import Remote, full_disk_answered, no_process, serve

FAREWELL_S = 2.0
CANNOT_FORK = "base and head must be processes forked from one image, which this system cannot do"

_servers: list[int] = []  # the process that is an image, in whatever is forked from it
_variables: dict[str, str] = {}  # that the server adds to the environment


def become_image() -> None:
    """Make this process what others are forked from: its allocator is fixed, and what it holds is never collected."""
    _servers[:] = [os.getpid()]
    steady_allocator()
    gc.collect()
    gc.freeze()
    gc.disable()  # sides collect between cases


def start_server(*image: str, threads: int) -> None:
    """Start the server that imports these modules, the last of which becomes the image, and do not wait for it.

    Libraries there are to use so many threads. Does nothing if a server runs.

    Raises:
        CannotDo: this system cannot fork, or has no place for the server's socket.

    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        raise CannotDo(f"{CANNOT_FORK}: run on Linux or macOS, or give --gate-base-python")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*image])
    _variables.update(thread_limits(threads))
    _ensure_running()


def _ensure_running() -> None:
    # Nothing in the user's folder may stand in for what the image imports.
    with _environment(**_variables, PYTHONPATH=str(SUITE), PYTHONSAFEPATH="1"):
        from multiprocessing import forkserver  # noqa: PLC0415  # only where there is one

        try:
            forkserver.ensure_running()
        except OSError as error:  # the path of a socket has 108 characters at most
            where = tempfile.gettempdir()
            raise CannotDo(f"no socket can be made in {where} ({error}): set TMPDIR to a shorter path") from error


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _nameless_main() -> Iterator[None]:
    """Keep ``multiprocessing`` from importing this program's main module in the process that it starts.

    That module may import what is compared, and then both sides would run the head's.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def fork(label: str, run: Callable[["Connection[Any, Any]"], None]) -> Remote:
    """Fork a process from the server's image, which runs a function on its end of a connection."""
    _ensure_running()
    try:
        ours, theirs = Pipe()
        process = multiprocessing.get_context("forkserver").Process(
            target=_run, args=(run, theirs), name="MainProcess", daemon=False
        )
        with theirs, _nameless_main():
            process.start()
    except OSError as error:
        raise no_process(error) from error

    def end() -> None:
        process.join(FAREWELL_S)  # it ends by itself, and gives back what it holds of the system
        process.kill()
        process.join()

    return Remote(label, ours, lambda: process.exitcode, end)


def fork_to_serve(label: str, make: Callable[[], object]) -> Remote:
    """Fork a process that obeys what ``make`` makes there."""
    return fork(label, partial(_serve_made, make))


def _run(run: Callable[["Connection[Any, Any]"], None], connection: "Connection[Any, Any]") -> None:
    if _servers != [os.getppid()]:
        raise RuntimeError("this process was not forked from the gate's image")
    multiprocessing.set_start_method(None, force=True)  # a process hands down the method by which it was started
    with full_disk_answered(connection):
        run(connection)


def _serve_made(make: Callable[[], object], connection: "Connection[Any, Any]") -> None:
    serve(make(), connection)
