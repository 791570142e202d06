"""How the gate speaks with a side or the examiner: commands go in, answers come out, in this process or another."""

import errno
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..plain.errors import CannotDo, CannotGoOn
from ..plain.execution import Fingerprint
from ..plain.progress import EVERY_S, progress

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PATIENCE_S = 600.0  # for an answer; a side may compile for minutes
_LOOK_S = 1.0  # whether the process still lives, while no answer comes


class SideFailed(Exception):
    """A side raised, misbehaved, or its process ended; the message says which side, and what happened.

    ``fingerprint`` is what the head executed, where that is known: it is reported even if the base raised.
    """

    def __init__(self, message: str, fingerprint: Fingerprint | None = None) -> None:
        super().__init__(message)
        self.fingerprint = fingerprint


class Unsupported(Exception):
    """The case cannot be run here; the message says why, that of a kernel from outside in its own words."""


class Misbehaved(Exception):
    """The side did what no side may; the message says what, without who."""


RAISED = {"unsupported": Unsupported, "cannot": CannotDo, "exhausted": CannotGoOn}  # by the outcome of a command


class Party(Protocol):
    """A worker, an examiner or a session. ``label`` names it in messages."""

    label: str

    def send(self, method: str, *arguments: object) -> None:
        """Send a command; ``receive`` returns its answer."""

    def receive(self) -> Any:
        """Return the answer to the oldest command that has none yet.

        Raises:
            SideFailed: the side raised or misbehaved, its process ended, or it did not answer in time.
            Unsupported: a kernel from outside does not support the case.
            CannotDo: the side cannot be loaded.
            CannotGoOn: the machine lacks what it needs.

        """

    def ask(self, method: str, *arguments: object) -> Any:
        """Send a command and return its answer."""


class Local:
    """A party in this process."""

    def __init__(self, label: str, obeying: object) -> None:
        self.label = label
        self._obeying = obeying
        self._sent: list[tuple[str, tuple[object, ...]]] = []

    def send(self, method: str, *arguments: object) -> None:
        self._sent.append((method, arguments))

    def receive(self) -> Any:
        return _answer(self.label, *answer_to(self._obeying, *self._sent.pop(0)))

    def ask(self, method: str, *arguments: object) -> Any:
        return _answer(self.label, *answer_to(self._obeying, method, arguments))


class Remote:
    """A party in a process of its own, behind a connection.

    ``status`` returns the exit code of the process, below zero the signal that ended it, None while it lives; ``end``
    ends it, whose end of the connection is closed.
    """

    def __init__(
        self, label: str, connection: "Connection[Any, Any]", status: Callable[[], int | None], end: Callable[[], None]
    ) -> None:
        self.label = label
        self._connection, self._status, self._end = connection, status, end

    @property
    def is_alive(self) -> bool:
        return not self._connection.closed and self._status() is None

    def send(self, method: str, *arguments: object) -> None:
        with suppress(OSError):  # ``receive`` will say why
            self._connection.send_bytes(dumps((method, arguments)))

    def receive(self) -> Any:
        outcome, value = pickle.loads(self._received())  # noqa: S301  # from a process that we started
        if outcome == "ended":
            self.close()  # it may live for a while, and answers nothing more
        return _answer(self.label, outcome, value)

    def ask(self, method: str, *arguments: object) -> Any:
        self.send(method, *arguments)
        return self.receive()

    def hang_up(self) -> None:
        """Close the connection, upon which the process ends by itself, without waiting for that."""
        self._connection.close()

    def close(self) -> None:
        """End the process: it holds nothing worth keeping."""
        self.hang_up()
        self._end()

    def _received(self) -> bytes:
        try:
            if not self._connection.poll(EVERY_S):
                with progress(f"the {self.label} works in a process of its own"):
                    self._wait(time.monotonic() + PATIENCE_S)
            return self._connection.recv_bytes()
        except TimeoutError as error:
            self.close()
            raise SideFailed(
                f"{self.label} did not answer for {PATIENCE_S:g} s in its own process: it hangs, or compiles for longer"
            ) from error
        except (EOFError, OSError) as error:
            status = self._ended()
            self.close()
            raise SideFailed(f"{self.label} ended in its own process {_in_words(status)}") from error

    def _wait(self, end_s: float) -> None:
        """Wait for an answer; the process may end while a child of it holds the connection open."""
        while not self._connection.poll(_LOOK_S):
            if self._status() is not None:
                raise EOFError
            if time.monotonic() > end_s:
                raise TimeoutError

    def _ended(self) -> int | None:
        """Return the exit code of a process whose end of the connection is closed, as soon as it is known."""
        end_s = time.monotonic() + _LOOK_S
        while (status := self._status()) is None and time.monotonic() < end_s:
            time.sleep(0.01)
        return status


def dumps(value: object) -> bytes:
    """Pickle a value so that any Python can read it that may be at the other end."""
    written = BytesIO()
    _Pickler(written, protocol=4).dump(value)
    return written.getvalue()


class _Pickler(pickle.Pickler):
    """Writes paths as texts: since Python 3.13 their classes are in a module that older ones lack."""

    def reducer_override(self, value: object) -> Any:
        return (_path, (str(value),)) if isinstance(value, Path) else NotImplemented


def _path(text: str) -> Path:
    return Path(text)


def serve(obeying: object, connection: "Connection[Any, Any]") -> None:
    """Obey the commands that come through a connection until it is closed; an interrupt is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    obey(obeying, connection)


def obey(obeying: object, connection: "Connection[Any, Any]", until: str | None = None) -> tuple[Any, ...] | None:
    """Obey commands until this one comes, and return its arguments; None where the connection is closed before."""
    while True:
        try:
            method, arguments = pickle.loads(connection.recv_bytes())  # noqa: S301  # from the process that started this one
        except (EOFError, OSError):
            return None
        if method == until:
            return tuple(arguments)
        answer(connection, *answer_to(obeying, method, arguments))


def answer(connection: "Connection[Any, Any]", outcome: str, value: object) -> None:
    """Send the answer to a command: how it ended, and the value or the message."""
    with suppress(BrokenPipeError):  # whoever asked has gone
        connection.send_bytes(dumps((outcome, value)))


@contextmanager
def full_disk_answered(connection: "Connection[Any, Any]") -> Iterator[None]:
    """Answer that the disk is full where that is what ends this process: it may have no place to print a traceback."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        why = f"a process of base or head cannot write its own files ({error.strerror})"
        answer(connection, "exhausted", f"{why}: set TMPDIR to a place with more room")


def answer_to(obeying: object, method: str, arguments: tuple[object, ...]) -> tuple[str, Any]:
    """Obey a command, which is a method; returns how that ended, and the value or the message."""
    try:
        return "done", getattr(obeying, method)(*arguments)
    except Unsupported as error:
        return "unsupported", str(error)
    except CannotDo as error:
        return "cannot", str(error)
    except Misbehaved as error:
        return "failed", str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the gate judges it
        return "failed", f"raised {type(error).__name__}: {error}"


def _answer(label: str, outcome: str, value: Any) -> Any:
    if outcome in RAISED:
        raise RAISED[outcome](value)
    if outcome in {"failed", "ended"}:
        raise SideFailed(f"{label} {value}")
    return value


def no_process(error: OSError) -> CannotGoOn:
    """Return what is raised where the system starts no more processes, or opens no more connections to them."""
    return CannotGoOn(f"no more processes can be started ({error.strerror}): raise ulimit -n and ulimit -u")


def _in_words(status: int | None) -> str:
    if status is None:
        return "without an exit code"
    if status >= 0:
        return f"with exit code {status}"
    number = signal.Signals(-status)
    lacking = {signal.SIGKILL: ", perhaps for lack of memory", signal.SIGBUS: ", perhaps for lack of room on a disk"}
    return f"by signal {number.value} ({number.name}{lacking.get(number, '')})"
