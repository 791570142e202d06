"""How the parent's command line becomes that of its twins."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ..plain.evidence import Place
from ..report.text import subject
from ..sources.repository import top_level
from ..sources.source import folders_of
from .opening import Selection
from .twin import FIXTURE

COMMON = ("numpy", "torch")  # libraries that are large, and may be imported before a process is forked
OWN = f"{__package__}.plugin"

# Values of options that are the parent's alone: what it selects, shows, repeats and writes, and where it stops. A twin
# runs the tests that the parent asks for.
_PARENT_S = frozenset(
    """
    keyword markexpr deselect collectonly maxfail file_or_dir plugins inifilename rootdir confcutdir override_ini
    importmode basetemp cacheclear cacheshow lf failedfirst newfirst last_failed_no_failures stepwise stepwise_skip
    usepdb usepdb_cls trace xmlpath junitprefix durations durations_min numprocesses maxprocesses dist tx distload
    looponfail report_log version help traceconfig debug setupplan setuponly setupshow
    """.split()  # noqa: SIM905  # a list of words reads best as words
)


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
        known=frozenset([*(item.nodeid for item in items), *deselected]),
        elsewhere=tuple(elsewhere),
        asked=_selecting(config, items),
        arguments=_shared(config),
        options=_options(config),
    )


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


def _shared(config: pytest.Config) -> tuple[str, ...]:
    """Return the arguments that a twin's pytest needs to find and load what the parent's has."""
    found = ["-p", "no:cacheprovider", f"--import-mode={config.option.importmode}"]
    # The image has imported pytest-benchmark, and the gate, which need no rewritten assertions.
    found += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    for value in config.option.override_ini or ():
        found += ["-o", value]
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
        name: value
        for name, value in vars(config.option).items()
        if name not in _PARENT_S and not name.startswith(own) and _is_plain(value)
    }


def _selecting(config: pytest.Config, items: Iterable[pytest.Item]) -> tuple[str, ...]:
    """Return the paths, modules and expressions by which the parent selects tests, with whole paths."""
    if config.getoption("lf", default=False):  # it leaves out tests, and whole files, without a word
        return tuple(dict.fromkeys(str(item.path) for item in items))
    found = ["--pyargs"] if config.option.pyargs else []
    for argument in config.args:
        path, colons, rest = argument.partition("::")
        place = (config.invocation_params.dir / path).resolve()
        found.append(argument if config.option.pyargs and not place.exists() else f"{place}{colons}{rest}")
    for name, value in (("-k", config.option.keyword), ("-m", config.option.markexpr)):
        if value:
            found.append(f"{name}{value}")
    return tuple(found)


def image(config: pytest.Config, base: str | None) -> tuple[str, ...]:
    """Return the modules that both twins have in common, if the tests use them: the image imports them once.

    That saves seconds, and twins whose libraries lie in the same places differ less. A module that the repository or a
    base's directory holds is each side's own.
    """
    named = [] if base is None else [base, *base.split()]
    roots = [config.rootpath, *(Path(name) for name in named if os.path.isdir(name))]  # noqa: PTH112  # Path would raise
    return tuple(name for name in COMMON if name in sys.modules and not any(folders_of(root, [name]) for root in roots))


def _is_plain(value: object) -> bool:
    return (
        value is None
        or isinstance(value, (bool, int, float, str, Path))
        or (isinstance(value, (list, tuple)) and all(map(_is_plain, value)))
    )
