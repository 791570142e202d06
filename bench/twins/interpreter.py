"""Starts a process under another Python interpreter that has the packages which the process needs. No torch."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from ..plain.errors import CannotDo
from ..sources.target import SUITE
from .party import Remote, no_process

OLDEST = (3, 11)
_ASK_PATIENCE_S = 120.0
_MARK = "attention-gate:"  # marks the line of the answer: an interpreter may print other lines
_ASK = """
import importlib, json, sys
modules = [importlib.import_module(name) for name in {needed}]
versions = {{module.__name__: module.__version__ for module in modules}}
print("\\n{mark}" + json.dumps([sys.version_info[:3], versions]))
"""
# The collector stays off from the start: timing needs it off, and torch would take an eighth longer to load.
_WORK = "import gc; gc.disable(); from {module} import main; main()"


def interpreter(path: str, needed: Sequence[str], place: Path = SUITE) -> dict[str, str]:
    """Return the version of an interpreter, as ``python``, and the versions of the modules that it needs.

    ``place`` is the folder that the gate is imported from.

    Raises:
        CannotDo: the path is not a Python interpreter, or the interpreter is too old or lacks a module.

    """
    asked, lacking = f"--gate-base-python={path}", " and ".join(needed)
    try:
        done = subprocess.run(
            [path, "-c", _ASK.format(needed=[*needed], mark=_MARK)],
            env=environment_for(path, place),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotDo(
            f"{asked} did not say in {_ASK_PATIENCE_S:g} s which {lacking} it has: give an interpreter that imports it"
        ) from error
    except OSError as error:
        raise CannotDo(f"{asked} cannot be run ({error.strerror}): give the path of an interpreter") from error
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CannotDo(f"{asked} cannot import {lacking} ({why}): give a Python interpreter that has it installed")
    try:
        (answer,) = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
        python, versions = json.loads(answer.removeprefix(_MARK))
        found = ".".join(map(str, python))
    except (ValueError, TypeError) as error:
        raise CannotDo(f"{asked} is no Python interpreter: give the path of one that has {lacking}") from error
    if tuple(python) < OLDEST:
        raise CannotDo(f"{asked} is Python {found}: give one from {'.'.join(map(str, OLDEST))}")
    return {"python": found, **versions}


def environment_for(python: str, place: Path = SUITE, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment, without the variables that lead another interpreter to this one's packages."""
    if python == sys.executable:
        places = [str(place), *filter(None, [given.get("PYTHONPATH")])]
        return {**given, "PYTHONPATH": os.pathsep.join(places)}
    foreign = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in given.items() if name not in foreign} | {"PYTHONPATH": str(place)}


def spawn(python: str, label: str, scratch: Path, module: str, environment: Mapping[str, str] | None = None) -> Remote:
    """Start a process under an interpreter; it runs ``main`` of a module of the gate, and is reached by a connection.

    The process writes files to ``scratch``, which the caller removes, and prints to this process's standard error. Its
    environment is this process's, as ``environment_for`` has it, unless another is given.
    """
    if environment is None:
        environment = environment_for(python)
    if os.sep in python:
        python = str(
            Path(python).absolute()
        )  # not resolved: an interpreter finds its packages by the link it was started by
    try:
        ours, theirs = Pipe()
        with theirs:
            process = subprocess.Popen(
                [python, "-P", "-c", _WORK.format(module=module), str(theirs.fileno())],
                cwd=scratch,
                env={**environment, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))},
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C reaches this process alone; the other ends when its pipe closes
            )
    except OSError as error:
        raise no_process(error) from error

    def kill() -> None:
        process.kill()
        process.wait()

    return Remote(label, ours, process.poll, kill)


def place_of_gate(scratch: Path) -> Path:
    """Make a folder from which the gate can be imported, and nothing that is installed beside the gate."""
    package = Path(__file__).resolve().parents[1]
    folder = scratch / "gate"
    folder.mkdir(exist_ok=True)
    link = folder / package.name
    if not link.exists():
        link.symlink_to(package, target_is_directory=True)
    return folder


def connection() -> "Connection[Any, Any]":
    """Return the connection of a process that ``spawn`` has started."""
    return Connection(int(sys.argv[1]))
