"""How the parent's command line becomes that of its twins."""

import os
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ..plain.evidence import Place
from ..plain.printable import counted
from ..report.text import subject
from ..sources.repository import top_level
from ..sources.source import folders_of
from .opening import Selection
from .twin import FIXTURE

# Libraries that are large, and may be imported before a process is forked; NumPy would load its generators later.
COMMON = ("numpy", "numpy.random", "torch")
OWN = f"{__package__}.plugin"
ENVIRONMENT = pytest.StashKey[Mapping[str, str]]()  # as it was before code of the repository was imported
_BETWEEN = ("pluggy", __name__.partition(".")[0])  # who calls a hook, and its implementation

# Values of options that are the parent's alone: what it selects, shows, repeats and writes, and where it stops. A twin
# runs the tests that the parent asks for.
_PARENT_S = frozenset(
    """
    deselect collectonly maxfail file_or_dir plugins inifilename rootdir confcutdir override_ini
    importmode basetemp cacheclear cacheshow lf failedfirst newfirst last_failed_no_failures stepwise stepwise_skip
    ignore ignore_glob usepdb usepdb_cls trace junitprefix durations durations_min numprocesses maxprocesses
    dist tx distload looponfail version help traceconfig debug setupplan setuponly setupshow
    """.split()  # noqa: SIM905  # a list of words reads best as words
)
_REPORTS = ("xmlpath", "report_log")  # which twins are not to write, though settings name them


def selection(
    config: pytest.Config, items: Sequence[pytest.Item], deselected: Iterable[str], elsewhere: Iterable[str] = ()
) -> Selection:
    """Return what pytest selected, and how a twin is to be started for it; ``elsewhere`` are tests of other shards.

    Where all tests are, the twins collect their files, and run none.
    """
    paths = [item.path for item in items] or [config.rootpath / id_.partition("::")[0] for id_ in elsewhere]
    return Selection(
        root=config.rootpath,
        settings=config.inipath,
        files=tuple(dict.fromkeys(paths)),
        tests=tuple(item.nodeid for item in items if uses_fixture(item)),
        known=frozenset([*(item.nodeid for item in items if uses_fixture(item)), *deselected, *elsewhere]),
        elsewhere=tuple(elsewhere),
        asked=_places(config, items),
        filters=_filters(config),
        arguments=_shared(config),
        options=_options(config),
        cwd=config.invocation_params.dir,
        environment=config.stash[ENVIRONMENT],
        notes=_notes(config, items),
    )


def note_environment(config: pytest.Config) -> None:
    """Keep the environment as it is; the first call counts, which must come before conftest files are imported."""
    config.stash.setdefault(ENVIRONMENT, dict(os.environ))


def places(items: Iterable[pytest.Item], root: Path) -> dict[str, Place]:
    """Return where tests are written in the repository, by node id without parameters."""
    top, found = (top_level(root) or root).resolve(), {}
    for item in items:
        path, line = item.path.resolve(), item.location[1]
        if path.is_relative_to(top):
            found[subject(item.nodeid)] = Place(path.relative_to(top).as_posix(), (line or 0) + 1)
    return found


def uses_fixture(item: pytest.Item) -> bool:
    """Whether an item is a test that uses ``benchmark``."""
    return FIXTURE in getattr(item, "fixturenames", ())


def _notes(config: pytest.Config, items: Iterable[pytest.Item]) -> tuple[str, ...]:
    """Warn of tests that pytest-codspeed, if it is installed, times without the fixture."""
    if not config.pluginmanager.has_plugin("codspeed"):
        return ()
    names = ("benchmark", "codspeed_benchmark")  # of its marks; the latter is also a fixture's
    marked = [
        item.nodeid
        for item in items
        if not uses_fixture(item)
        and (any(map(item.get_closest_marker, names)) or names[1] in getattr(item, "fixturenames", ()))
    ]
    if not marked:
        return ()
    counts = counted(len(marked), "benchmark of pytest-codspeed is", "benchmarks of pytest-codspeed are")
    return (f"{counts} not compared, such as {marked[0]}: let them call the fixture {FIXTURE}",)


def _shared(config: pytest.Config) -> tuple[str, ...]:
    """Return the arguments that a twin's pytest needs to find and load what the parent's has."""
    found = [f"--import-mode={config.option.importmode}"]
    # The image has imported pytest-benchmark, and the gate, which need no rewritten assertions.
    found += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    for value in config.option.override_ini or ():
        found += ["-o", value]
    found += ["-o", "tmp_path_retention_policy=failed"]  # many calls of a test may fill a disk
    for name in config.option.plugins or ():
        found += [] if name == OWN else ["-p", name]
    if config.pluginmanager.has_plugin("xdist"):
        found += ["-n0"]
    if config.pluginmanager.has_plugin("pytest_cov"):
        found += ["--no-cov"]  # a traced call is another one
    return tuple(found)


def _options(config: pytest.Config) -> dict[str, Any]:
    """Return the values of the options of the repository and of other plugins, which tests may read."""
    own = ("gate_", "benchmark_", "cov")
    return {
        name: None if name in _REPORTS else value
        for name, value in vars(config.option).items()
        if name not in _PARENT_S and not name.startswith(own) and _is_plain(value)
    }


def _places(config: pytest.Config, items: Iterable[pytest.Item]) -> tuple[str, ...]:
    """Return the paths and modules in which the parent selects tests, with whole paths."""
    if config.getoption("lf", default=False):  # it leaves out tests, and whole files, without a word
        return tuple(f"{item.path}::{item.nodeid.partition('::')[2]}" for item in items)
    found = []
    for argument in config.args:
        path, colons, rest = argument.partition("::")
        place = Path(os.path.normpath(config.invocation_params.dir / path))  # a link keeps its name, as in node ids
        found.append(argument if config.option.pyargs and not place.exists() else f"{place}{colons}{rest}")
    return tuple(found)


def _filters(config: pytest.Config) -> tuple[str, ...]:
    """Return the options of the command line that leave out tests: settings of the base have their own."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False, fromfile_prefix_chars="@")
    for flag in ("-v", "-q", "-s", "-x", "-l"):  # which may be written together with those below
        parser.add_argument(flag, action="store_true", dest="flags")
    for name in ("-k", "-m"):
        parser.add_argument(name, dest=name)
    for name in ("--deselect", "--ignore", "--ignore-glob"):
        parser.add_argument(name, dest=name, action="append", default=[])
    given = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
    options, _ = parser.parse_known_args(given)
    found = ["--pyargs"] if config.option.pyargs else []
    del options.flags
    for name, value in vars(options).items():
        if isinstance(value, list):
            found += [f"{name}={one}" for one in value]
        elif value is not None:
            found += [name, value]
    return tuple(found)


def is_deselected_by_settings() -> bool:
    """Whether pytest itself, by -k, -m or --deselect, called the hook ``pytest_deselected``, which calls this."""
    frame = sys._getframe(1)  # noqa: SLF001  # the hook does not say who called it
    while frame.f_back is not None and frame.f_globals["__name__"].partition(".")[0] in _BETWEEN:
        frame = frame.f_back
    return frame.f_globals["__name__"] in ("_pytest.mark", "_pytest.main")


def image(config: pytest.Config, base: str | None) -> tuple[str, ...]:
    """Return the modules that both twins have in common, if the tests use them: the image imports them once.

    That saves seconds, and twins whose libraries lie in the same places differ less. A module that the repository or a
    base's directory holds is each side's own.
    """
    named = [] if base is None else [base, *base.split()]
    roots = [config.rootpath, *(Path(name) for name in named if os.path.isdir(name))]  # noqa: PTH112  # Path would raise

    def in_common(package: str) -> bool:
        return package in sys.modules and not any(folders_of(root, [package]) for root in roots)

    return tuple(name for name in COMMON if in_common(name.partition(".")[0]))


def _is_plain(value: object) -> bool:
    return (
        value is None
        or isinstance(value, (bool, int, float, complex, str, bytes, Path))
        or (isinstance(value, (list, tuple, set, frozenset)) and all(map(_is_plain, value)))
        or (isinstance(value, dict) and all(map(_is_plain, value.items())))
    )
