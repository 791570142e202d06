"""Starts, asks and ends a side in a process of its own, under any interpreter that has torch."""

import json
import os
import pickle
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..plain.errors import CannotDo
from ..plain.progress import progress

OLDEST = (3, 11)
_ROOT = Path(__file__).parents[2]
PATIENCE_S = 600.0  # for an answer; a side may compile for minutes
_ASK_PATIENCE_S = 120.0
_MARK = "attention-gate:"  # marks the answer, since an interpreter may print at its start and end
_ASK = f"import json, sys, torch; print('\\n{_MARK}' + json.dumps([sys.version_info[:3], torch.__version__]))"

# Garbage is not collected while a side is timed, nor before: torch would take an eighth longer to load.
_WORK = "import gc; gc.disable(); from bench.timing.worker import main; main()"


class SideFailed(Exception):
    """A side raised in its own process, or that process ended; the message says what it said."""


def interpreter(path: str) -> dict[str, str]:
    """Return the versions of Python and torch behind the path of an interpreter.

    Raises:
        CannotDo: it is none, too old, or has no torch.

    """
    asked = f"--gate-base-python={path}"
    try:
        done = subprocess.run(
            [path, "-c", _ASK],
            env=_environment(path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotDo(
            f"{asked} did not say in {_ASK_PATIENCE_S:g} s which torch it has: give an interpreter that imports torch"
        ) from error
    except OSError as error:
        raise CannotDo(f"{asked} cannot be run ({error.strerror}): give the path of an interpreter") from error
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CannotDo(f"{asked} cannot import torch ({why}): give a Python interpreter that has torch installed")
    try:
        (answer,) = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
        python, version = json.loads(answer.removeprefix(_MARK))
        found = ".".join(map(str, python))
    except (ValueError, TypeError) as error:
        raise CannotDo(f"{asked} is no Python interpreter: give the path of one that has torch") from error
    if tuple(python) < OLDEST:
        raise CannotDo(f"{asked} is Python {found}: give one from {'.'.join(map(str, OLDEST))}")
    return {"python": found, "torch": version}


def _environment(python: str) -> dict[str, str]:
    """This process's environment, without variables that lead another interpreter to this one's packages."""
    if python == sys.executable:
        places = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    foreign = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in foreign} | {"PYTHONPATH": str(_ROOT)}


class Remote:
    """A side in a process of its own. Calling it does the work of the case at hand once, untimed.

    The process writes files to ``scratch``, which the caller removes, and prints to the standard error of this process.
    """

    def __init__(self, python: str, label: str, scratch: Path) -> None:
        self.label = label
        if os.sep in python:
            python = str(Path(python).absolute())  # not resolved: links tell it where its packages are
        given, self._commands = os.pipe()
        self._answers, taken = os.pipe()
        try:
            self._process = subprocess.Popen(
                [python, "-c", _WORK, str(given), str(taken)],
                cwd=_ROOT,
                env=_environment(python) | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch)),
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(given, taken),
                start_new_session=True,  # an interrupt reaches this process alone; the other ends when its pipe closes
            )
        finally:
            os.close(given)
            os.close(taken)
        self._stream = os.fdopen(self._commands, "wb")
        self._reader = _Reader(self._answers, self._process)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def __call__(self) -> None:
        self.ask("burst", 1)

    def send(self, method: str, *arguments: object) -> None:
        """Send a command; ``receive`` returns its answer."""
        try:
            pickle.dump((method, arguments), self._stream, protocol=4)
            self._stream.flush()
        except BrokenPipeError:
            self._process.wait()  # ``receive`` will say why

    def receive(self, patience_s: float = PATIENCE_S) -> Any:
        """Return the answer to the oldest command that has none yet.

        Raises:
            SideFailed: the side raised, its process ended, or it did not answer for so long.

        """
        self._reader.until = time.monotonic() + patience_s
        try:
            with progress(f"the {self.label} works in a process of its own"):
                outcome, value = pickle.load(self._reader)  # noqa: S301  # from a process that we started
        except TimeoutError as error:
            self.close()
            raise SideFailed(
                f"{self.label} did not answer for {patience_s:g} s in its own process: it hangs, or compiles for longer"
            ) from error
        except (EOFError, pickle.UnpicklingError) as error:
            status = self._process.wait()
            raise SideFailed(f"{self.label} ended in its own process with status {status}") from error
        if outcome == "failed":
            raise SideFailed(f"{self.label} {value}")
        return value

    def ask(self, method: str, *arguments: object) -> Any:
        self.send(method, *arguments)
        return self.receive()

    def close(self) -> None:
        """Kill the process: it holds nothing worth keeping."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._stream.close()
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1


class _Reader:
    """Reads a pipe for pickle until the process behind it ends or a deadline passes."""

    def __init__(self, pipe: int, process: subprocess.Popen[bytes]) -> None:
        self.until = 0.0
        self._pipe, self._process = pipe, process
        self._held = b""  # bytes that have come and were not asked for yet

    def read(self, size: int) -> bytes:
        while len(self._held) < size and (more := self._more()):
            self._held += more
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def readline(self) -> bytes:
        while b"\n" not in self._held and (more := self._more()):
            self._held += more
        line, end, self._held = self._held.partition(b"\n")
        return line + end

    def _more(self) -> bytes:
        """Return what has arrived; empty once the process has ended, even if a child of it holds the pipe open."""
        while True:
            ended = self._process.poll() is not None
            ready, _, _ = select.select([self._pipe], [], [], 0 if ended else 1)
            if ready:
                return os.read(self._pipe, 1 << 16)
            if ended:
                return b""
            if time.monotonic() > self.until:
                raise TimeoutError
