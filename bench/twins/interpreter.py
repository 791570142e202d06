"""Starts a side in a process of its own under any interpreter that has torch."""

import json
import os
import subprocess
import sys
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from ..plain.errors import CannotDo
from ..sides.what import SUITE
from .party import Remote, serve
from .worker import Worker

OLDEST = (3, 11)
_ASK_PATIENCE_S = 120.0
_MARK = "attention-gate:"  # marks the answer, since an interpreter may print at its start and end
_ASK = f"import json, sys, torch; print('\\n{_MARK}' + json.dumps([sys.version_info[:3], torch.__version__]))"

# Garbage is not collected while a side is timed, nor before: torch would take an eighth longer to load.
_WORK = "import gc; gc.disable(); from bench.twins.interpreter import main; main()"


def interpreter(path: str) -> dict[str, str]:
    """Return the versions of Python and torch behind the path of an interpreter.

    Raises:
        CannotDo: it is none, too old, or has no torch.

    """
    asked = f"--gate-base-python={path}"
    try:
        done = subprocess.run(
            [path, "-c", _ASK],
            env=environment_for(path),
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


def environment_for(python: str) -> dict[str, str]:
    """This process's environment, without variables that lead another interpreter to this one's packages."""
    if python == sys.executable:
        places = [str(SUITE), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    foreign = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in foreign} | {"PYTHONPATH": str(SUITE)}


def spawn(python: str, label: str, scratch: Path) -> Remote:
    """Start a worker under an interpreter.

    The process writes files to ``scratch``, which the caller removes, and prints to the standard error of this process.
    """
    if os.sep in python:
        python = str(Path(python).absolute())  # not resolved: links tell it where its packages are
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [python, "-c", _WORK, str(theirs.fileno())],
            cwd=SUITE,
            env=environment_for(python) | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch)),
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # an interrupt reaches this process alone; the other ends when its pipe closes
        )

    def kill() -> None:
        process.kill()
        process.wait()

    return Remote(label, ours, process.poll, kill)


def main() -> None:
    """Obey, in the process that ``spawn`` starts, the commands of the connection named on the command line."""
    serve(Worker(), Connection(int(sys.argv[1])))
