"""A side of a comparison in a process of its own, under any interpreter that has torch: started, asked, ended."""

import json
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

from ..plain.errors import CannotDo

OLDEST = (3, 11)
_ROOT = Path(__file__).parents[2]
_ASK = "import json, sys, torch; print(json.dumps([sys.version_info[:3], torch.__version__]))"


class SideFailed(Exception):
    """A side raised in its own process, or that process ended; the message says what it said."""


def interpreter(path: str) -> dict[str, str]:
    """Return the versions of Python and torch behind the path of an interpreter.

    Raises:
        CannotDo: it is none, too old, or has no torch.

    """
    asked = f"--gate-base-python={path}"
    try:
        done = subprocess.run([path, "-c", _ASK], env=_environment(), capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotDo(f"{asked} cannot be run ({error.strerror}): give the path of an interpreter") from error
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CannotDo(f"{asked} cannot import torch ({why}): give a Python interpreter that has torch installed")
    try:
        python, version = json.loads(done.stdout)
        found = ".".join(map(str, python))
    except (ValueError, TypeError) as error:
        raise CannotDo(f"{asked} is no Python interpreter: give the path of one that has torch") from error
    if tuple(python) < OLDEST:
        raise CannotDo(f"{asked} is Python {found}: give one from {'.'.join(map(str, OLDEST))}")
    return {"python": found, "torch": version}


def _environment() -> dict[str, str]:
    """This process's, without what would make another interpreter look for packages where this one does."""
    foreign = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in foreign} | {"PYTHONPATH": str(_ROOT)}


class Remote:
    """A side in a process of its own. Calling it does the work of the case at hand once, untimed.

    What the process writes to disk goes into ``scratch``, which is the caller's to remove.
    """

    def __init__(self, python: str, label: str, scratch: Path) -> None:
        self.label = label
        if os.sep in python:
            python = str(Path(python).absolute())  # as seen from here; its links tell it where its packages are
        self._process = subprocess.Popen(
            [python, "-m", "bench.timing.worker"],
            cwd=_ROOT,
            env=_environment() | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt is for this process alone; the other ends with its pipe
        )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def __call__(self) -> None:
        self.ask("burst", 1)

    def send(self, method: str, *arguments: object) -> None:
        """Send a command, whose answer is to be received."""
        assert self._process.stdin is not None  # it is a pipe
        try:
            pickle.dump((method, arguments), self._process.stdin, protocol=4)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._process.wait()  # receiving says the rest

    def receive(self) -> Any:
        """Return the answer to the oldest command that has none.

        Raises:
            SideFailed: the side raised, or its process ended.

        """
        assert self._process.stdout is not None  # it is a pipe
        try:
            outcome, value = pickle.load(self._process.stdout)  # noqa: S301  # from the process that was started for it
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
        """End the process at once: it holds nothing that is worth keeping."""
        self._process.kill()
        self._process.communicate()
