"""Twins: base and head as processes forked from one image, which take turns on the same cores while they are timed."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import ModuleType
from typing import Any

from ..plain.errors import CannotDo
from ..plain.evidence import Measurement
from ..sides.code import Code
from ..sides.what import SUITE, What
from ..timing.measure import StoppingRule
from .examiner import Examiner
from .party import Remote, SideFailed, serve
from .sides import measure_bursts, notes_of
from .worker import Start, Worker

IMAGE = f"{__package__}.image"
FAREWELL_S = 2.0
CANNOT_FORK = "base and head must be processes forked from one image, which this system cannot do"


def start_server() -> None:
    """Start the server that imports the image, if it does not run yet, and do not wait for it.

    Raises:
        CannotDo: this system cannot fork.

    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        raise CannotDo(f"{CANNOT_FORK}: run on Linux or macOS, or give --gate-base-python")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([IMAGE])
    # Nothing in the user's folder may stand in for what the image imports.
    with _environment(PYTHONPATH=str(SUITE), PYTHONSAFEPATH="1"):
        from multiprocessing import forkserver  # noqa: PLC0415  # only where there is one

        forkserver.ensure_running()


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


def _serve(make: Callable[[], object], connection: "Connection[Any, Any]") -> None:
    """Obey in a process that the server forked."""
    image: Any = sys.modules.get(IMAGE)
    if image is None or os.getppid() != image.SERVER:
        raise RuntimeError("this process was not forked from the gate's image")
    serve(make(), connection)


def starts_of(
    codes: Mapping[str, Code], what: What, devices: tuple[str, ...], threads: int, scratch: Path, **more: bool
) -> dict[str, Start]:
    """Return what the processes of sides need, by label; ``more`` are fields of ``Start``."""
    return {
        label: Start(
            label, one.source.origin, one.world, what, devices, threads, scratch / f"extensions-{label}", **more
        )
        for label, one in codes.items()
    }


def fork(label: str, make: Callable[[], object]) -> Remote:
    """Fork a process that obeys what ``make`` makes there."""
    start_server()
    ours, theirs = Pipe()
    process = multiprocessing.get_context("forkserver").Process(
        target=_serve, args=(make, theirs), name=label, daemon=False
    )
    with _nameless_main():
        process.start()
    theirs.close()

    def end() -> None:
        process.join(FAREWELL_S)  # it ends by itself, and gives back what it holds of the system
        process.kill()
        process.join()

    return Remote(label, ours, lambda: process.exitcode, end)


def fork_examiner(threads: int) -> Remote:
    """Fork an examiner, without waiting until it is ready: its first answer says that."""
    party = fork("the check", Examiner)
    party.send("load", SUITE, threads)
    return party


@dataclass
class Twins:
    """Head and base, if there is one, and the examiner, each a process of its own that is replaced when it ends.

    ``order`` says which side is forked first.
    """

    starts: dict[str, Start]  # by label
    scratch: Path
    order: tuple[str, ...] = ("head", "base")
    parties: dict[str, Remote] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        return notes_of(*(self.parties[label] for label in self._labels if self._lives(label)))

    @property
    def _labels(self) -> list[str]:
        """The sides that there are, in the order in which they are forked."""
        return [label for label in self.order if label in self.starts]

    @property
    def head(self) -> Remote:
        return self.parties["head"]

    @property
    def base(self) -> Remote | None:
        return self.parties.get("base")

    @property
    def examiner(self) -> Remote:
        return self.parties["examiner"]

    def ready(self) -> None:
        """Fork what does not live.

        Raises:
            CannotDo: a side does not load.

        """
        lacking = [label for label in ("examiner", *self._labels) if not self._lives(label)]
        for label in lacking:
            if (old := self.parties.pop(label, None)) is not None:
                old.close()
            if label == "examiner":
                party = fork_examiner(self.starts["head"].threads)
            else:
                party = fork(label, Worker)
                party.send("load", self.starts[label])
            self.parties[label] = party
        for label in lacking:
            try:
                self.parties[label].receive()
            except SideFailed as failure:
                raise CannotDo(f"{failure}, when it was loaded: choose one that loads here") from failure

    def _lives(self, label: str) -> bool:
        return label in self.parties and self.parties[label].is_alive

    def measure(self, rule: StoppingRule, budget_s: float) -> Measurement:
        """Time both sides in turn, on the same cores as this process, so that every burst follows the same switch."""
        assert self.base is not None  # a case without a base is not measured
        every = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
        timed_on = every[-self.starts["head"].threads :]
        if every:
            os.sched_setaffinity(0, timed_on)
        try:
            return measure_bursts(self.base, self.head, rule, budget_s, cores=(timed_on, every))
        finally:
            if every:
                os.sched_setaffinity(0, every)

    @contextmanager
    def again(self) -> Iterator["Twins"]:
        """Fork another pair, in the other order."""
        with twins(self.starts, self.scratch, self.order[::-1]) as others:
            yield others

    def slow_down(self, shares: Mapping[str, float | None]) -> None:
        """Make calls of the sides take longer by shares, here and where a slowdown is confirmed; for the self-test."""
        for label, share in shares.items():
            self.starts[label] = replace(self.starts[label], slowdown=share)
            self.parties[label].ask("slow_down", share)

    def close(self) -> None:
        for party in self.parties.values():
            party.close()


@contextmanager
def twins(starts: dict[str, Start], scratch: Path, order: Sequence[str] = ("head", "base")) -> Iterator[Twins]:
    """Hold twins for as long as the context lasts.

    Raises:
        CannotDo: a side does not load.

    """
    held = Twins(starts, scratch, tuple(order))
    try:
        held.ready()
        yield held
    finally:
        held.close()
