"""What a run over the benchmarks of a repository was asked: options first, then ``[tool.twinbench]``, then defaults."""

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import pytest

from .. import policy_options
from ..judging import waivers
from ..judging.policy import Policy
from ..judging.waivers import Exceptions
from ..plain.arguments import DEFAULT_SHARD, DEFAULT_THREADS, PORTION, THREADS, read_shard
from ..plain.errors import CannotDo
from ..plain.toml import Toml
from ..sources.repository import top_level

SECTION = "tool.twinbench"  # of pyproject.toml
_VALUES = ("base", "threshold", "budget", "undecided", "threads")
_TABLES = ("waiver", "threshold")


@dataclass(frozen=True)
class SessionSettings:
    """What to compare, and how strictly.

    ``base`` is None where the base is the head's code under another interpreter. ``head`` is a revision that is
    compared instead of what is on disk. ``file`` holds the waivers. ``slowed`` is a share by which each call of the
    head is made slower, to test the gate; None: no call is touched.
    """

    base: str | None
    policy: Policy
    threads: int
    shard: tuple[int, int] = (1, 1)
    base_python: str | None = None
    head: str | None = None
    file: Toml | None = None
    reports: Mapping[str, Path] = field(default_factory=dict)  # format -> file
    annotate: bool = False
    slowed: float | None = None

    def exceptions(self, ids: Collection[str]) -> Exceptions:
        """Read what is accepted of the tests; there may be others than those with these ids.

        Raises:
            CannotDo: an entry makes no sense, has expired, or shares a test with another.

        """
        if self.file is None:
            return Exceptions()
        today = date.today()  # noqa: DTZ011  # a day where the user is
        tables = {key: value for key, value in self.file.document.items() if isinstance(value, list)}
        return waivers.entries(replace(self.file, document=tables), lambda: ids, today, all_known=False)


def add(group: pytest.OptionGroup) -> None:
    """Declare the options that the suite's own plugin has by shorter names."""
    option = group.addoption
    option("--gate", action="store_true", help=f"compare with the base that [{SECTION}] in pyproject.toml names")
    option("--gate-head", metavar="REV", help="compare this revision instead of what is on disk")
    option("--gate-shard", default=DEFAULT_SHARD, metavar="I/N", help=f"part of the tests (default {DEFAULT_SHARD})")
    option("--gate-threads", metavar="N", help=f"cores (default {DEFAULT_THREADS})")
    option("--gate-slowed", metavar="PERCENT", help="make the head slower, to test the gate")


def read(config: pytest.Config) -> SessionSettings | None:
    """Read the options, and the file; None where no comparison is asked for.

    Raises:
        CannotDo: a senseless value or combination; the message says what to do.

    """
    option = config.getoption
    policy_options.refuse_empty(config)
    base, base_python = option("gate_base"), option("gate_base_python")
    if base is None and base_python is None and not option("gate"):
        own = (*policy_options.COMPARING, "gate_config", "gate_head", "gate_threads", "gate_slowed")
        policy_options.refuse_alone(config, own, instead="--gate-base=REV-or-DIR")
        if option("gate_shard") != DEFAULT_SHARD:
            raise CannotDo("--gate-shard is about a comparison and none was asked for: add --gate-base=REV-or-DIR")
        return None
    file = _file(config)
    written = {} if file is None else _values(file)
    if base is None and option("gate"):
        base = written.get("base")
    if base is None and base_python is None:
        where = option("gate_config") or f"[{SECTION}] in {'pyproject.toml' if file is None else file.name}"
        raise CannotDo(f'--gate asks for the base that {where} names, and it names none: write base = "main" there')
    threads, slowed = option("gate_threads"), option("gate_slowed")
    return SessionSettings(
        base=base,
        policy=policy_options.policy(config, written),
        threads=THREADS.read(
            "--gate-threads", written.get("threads", str(DEFAULT_THREADS)) if threads is None else threads
        ),
        shard=read_shard("--gate-shard", option("gate_shard")),
        base_python=base_python,
        head=option("gate_head"),
        file=file,
        reports=policy_options.reports(config),
        annotate=option("gate_annotations"),
        slowed=None if slowed is None else PORTION.read("--gate-slowed", slowed),
    )


def _file(config: pytest.Config) -> Toml | None:
    """Read the file that was named, or the section of the nearest ``pyproject.toml`` that has it.

    Those of pytest's root and of the folders above it count, up to the root of the git repository. Where none has the
    section, it is an empty one of the topmost; None where there is no file.
    """
    named = config.getoption("gate_config")
    if named is not None:
        try:
            return Toml.read(Path(named))
        except FileNotFoundError as error:
            raise CannotDo(f"--gate-config={named} is not there: name a TOML file") from error
    root = config.rootpath.resolve()
    top, found = top_level(root) or root, None
    for folder in (root, *(folder for folder in root.parents if folder.is_relative_to(top))):
        with suppress(FileNotFoundError):
            path = folder / "pyproject.toml"
            found = Toml.read(path, os.path.relpath(path, root)).section(SECTION)
        if found is not None and found.document:
            break
    return found


def _values(file: Toml) -> dict[str, str]:
    """Return the single values, as they would be given for options."""
    found = {}
    for key, value in file.document.items():
        if key in _TABLES and isinstance(value, list):
            continue
        if key not in _VALUES:
            raise CannotDo(
                f"{file.at(key=key)}: {key} is no key of the gate: write {', '.join(_VALUES)} and [[waiver]] tables"
            )
        if not isinstance(value, (str, int, float)) or isinstance(value, bool) or value == "":
            raise CannotDo(f'{file.at(key=key)}: {key}: give one value, such as base = "main"; saw {value!r}')
        found[key] = str(value)
    return found
