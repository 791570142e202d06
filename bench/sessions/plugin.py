"""The pytest plugin for benchmarks of any repository: thin hooks over ``Session``.

Without a comparison it checks results by the references that tests name, and does nothing else.
"""

import os
from collections.abc import Generator, Mapping
from typing import Any

import pytest

from .. import policy_options
from ..judging.shards import deal
from ..plain.errors import CannotDo
from ..plain.evidence import Place
from ..plain.interrupt import ending_cleanly
from ..report import formats
from ..timing.machine import describe_machine, steady_allocator
from ..twins.fork import start_server
from . import arguments, protocol, settings, stored
from .ending import ENDING, Ending, usage_errors
from .marker import MARKER
from .session import Session
from .twin import FIXTURE, NAME

SESSION = pytest.StashKey[Session]()
DESELECTED = pytest.StashKey[list[str]]()  # node ids
PLACES = pytest.StashKey[Mapping[str, Place]]()  # of tests, for annotations
ELSEWHERE = pytest.StashKey[list[str]]()  # node ids of tests that other shards run
IMAGE = f"{__package__}.image"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gate", "regression gate for benchmarks")
    policy_options.add(group)
    settings.add(group)


@pytest.hookimpl(trylast=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # After plugins that set variables by options, which a twin's pytest does not get; before conftest files.
    arguments.note_environment(early_config)


def pytest_configure(config: pytest.Config) -> None:
    arguments.note_environment(config)  # a plugin that a conftest names is loaded too late for the hook above
    config.addinivalue_line("markers", MARKER)
    if config.pluginmanager.has_plugin(NAME):  # the parent judges
        return
    with usage_errors():
        asked = settings.read(config)
        if asked is None:
            return
        _refuse_untimed(config)
        formats.check(asked.reports)
        session = Session(asked, describe_machine(steady_allocator()) | {"threads": asked.threads})
    session.resources.enter_context(ending_cleanly())
    config.stash[SESSION] = session
    config.stash[ENDING] = Ending(asked.reports, lambda: config.stash[PLACES], asked.annotate)
    config.pluginmanager.register(config.stash[ENDING])
    config.stash[DESELECTED], config.stash[ELSEWHERE], config.stash[PLACES] = [], [], {}
    config.add_cleanup(session.resources.close)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # After -k and -m, so that every shard splits the same selection.
    if SESSION not in config.stash:
        return
    index, count = config.stash[SESSION].settings.shard
    parts = deal({item.nodeid: 1.0 for item in items if arguments.uses_fixture(item)}, count)
    elsewhere = {id_ for part in parts for id_ in part} - set(parts[index - 1])
    if elsewhere:
        config.stash[ELSEWHERE] += sorted(elsewhere)
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in elsewhere])
        items[:] = [item for item in items if item.nodeid not in elsewhere]


def pytest_deselected(items: list[pytest.Item]) -> None:
    if arguments.is_deselected_by_settings():  # so are the base's own tests, by its own settings and marks
        return
    for item in items:
        if DESELECTED in item.config.stash:
            item.config.stash[DESELECTED].append(item.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if SESSION not in config.stash or config.option.collectonly:
        return
    if session.testsfailed and not config.option.continue_on_collection_errors:
        return
    deselected, elsewhere = config.stash[DESELECTED], config.stash[ELSEWHERE]
    if not session.items and not elsewhere:
        return
    with usage_errors():
        selected = arguments.selection(config, session.items, deselected, elsewhere)
        if not selected.tests and not elsewhere:
            raise CannotDo("no test uses the benchmark fixture, so nothing can be compared: name some that do")
        config.stash[PLACES] = arguments.places(session.items, config.rootpath)
        run = config.stash[SESSION]
        start_server(*arguments.image(config, run.settings.base), IMAGE, threads=run.settings.threads)
        run.start(selected)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    session = item.config.stash.get(SESSION, None)
    if session is None:
        return None
    protocol.run(session, item, nextitem)
    return True


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item) -> bool | None:
    # Timing a call takes longer than calling it, so pytest-timeout must not limit it.
    return True if SESSION in item.config.stash else None


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    """Where nothing is compared, hold what a test returns to the reference that its marker names."""
    made = yield
    config = request.config
    if fixturedef.argname == FIXTURE and SESSION not in config.stash and not config.pluginmanager.has_plugin(NAME):
        protocol.check_by_reference(request.node, made)
    return made


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    config = session.config
    if SESSION in config.stash and not config.option.collectonly:
        run = config.stash[SESSION]
        session.exitstatus = config.stash[ENDING].conclude(run.finish, run.resources.close, exitstatus)
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    if (part := stored.our_part(config.rootpath)) is not None:
        output_json[stored.KEY] = part


def _refuse_untimed(config: pytest.Config) -> None:
    """Refuse what leaves nothing to time, or times it beside other work."""
    policy_options.refuse_without_fixture(config)
    policy_options.refuse_disabled(config, "compare")
    stored_too = [name for name in ("save", "autosave", "json", "compare") if config.getoption(f"benchmark_{name}")]
    if stored_too:
        raise CannotDo(f"--benchmark-{stored_too[0]} and --gate-base are two kinds of comparison: give one of them")
    if policy_options.is_parallel(config) or "PYTEST_XDIST_WORKER" in os.environ:
        raise CannotDo(
            "timing under -n (pytest-xdist) measures the other workers: drop -n, or the comparison to only check"
        )
