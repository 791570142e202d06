"""The pytest plugin for benchmarks of any repository: thin hooks over ``Session``. Inert without ``--gate-base``."""

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .. import policy_options
from ..judging.run import Run
from ..plain.arguments import DEFAULT_THREADS, THREADS
from ..plain.errors import CannotDo
from ..plain.files import check_writable
from ..plain.interrupt import ending_cleanly
from ..report import formats
from ..report.terminal import write_table
from ..timing.machine import describe_machine, steady_allocator
from ..twins.fork import start_server
from . import arguments, protocol
from .marker import MARKER
from .session import Session, Settings
from .twin import NAME

SESSION = pytest.StashKey[Session]()
REPORTS = pytest.StashKey[Mapping[str, Path]]()
DESELECTED = pytest.StashKey[list[str]]()  # node ids
RUN = pytest.StashKey[Run]()
CLOSING = pytest.StashKey[str]()
IMAGE = f"{__package__}.image"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gate", "regression gate for benchmarks")
    policy_options.add(group)
    group.addoption(
        "--gate-threads", default=str(DEFAULT_THREADS), metavar="N", help=f"cores (default {DEFAULT_THREADS})"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    if config.pluginmanager.has_plugin(NAME):
        return
    with _usage_errors():
        policy_options.refuse_empty(config)
        base = config.getoption("gate_base")
        if base is None:
            policy_options.refuse_alone(config, instead="--gate-base=REV-or-DIR")
            return
        _refuse_untimed(config)
        threads = THREADS.read("--gate-threads", config.getoption("gate_threads"))
        settings = Settings(base, policy_options.policy(config), threads)
        config.stash[REPORTS] = policy_options.reports(config)
        for path in config.stash[REPORTS].values():
            check_writable(path)
        session = Session(settings, describe_machine(steady_allocator()) | {"threads": threads})
    session.resources.enter_context(ending_cleanly())
    config.stash[SESSION] = session
    config.stash[DESELECTED] = []
    config.add_cleanup(session.resources.close)


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        if DESELECTED in item.config.stash:
            item.config.stash[DESELECTED].append(item.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if SESSION not in config.stash or config.option.collectonly or session.testsfailed:
        return
    with _usage_errors():
        deselected = config.stash[DESELECTED]
        selected = arguments.selection(config, session.items, deselected)
        if not selected.tests:
            raise CannotDo("no test uses the benchmark fixture, so nothing can be compared: name some that do")
        start_server(*arguments.image(), IMAGE)
        config.stash[SESSION].start(selected)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    session = item.config.stash.get(SESSION, None)
    if session is None:
        return None
    protocol.run(session, item, nextitem)
    return True


def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, Any] | None:
    return protocol.status(report)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    config = session.config
    if SESSION in config.stash and not config.option.collectonly:
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = _conclude(config, exitstatus)
        else:
            config.stash[CLOSING] = "gate: ERROR, the run did not finish, so there is no verdict"
    return (yield)


def _conclude(config: pytest.Config, exitstatus: int) -> int:
    """Sum up the run, write the reports, and return the exit code."""
    session = config.stash[SESSION]
    if not session.has_started:  # collecting failed: pytest has said so
        config.stash[CLOSING] = "gate: ERROR, tests could not be collected, so there is no verdict"
        return int(pytest.ExitCode.USAGE_ERROR)
    run = config.stash[RUN] = session.finish()
    config.stash[CLOSING] = run.closing_line
    try:
        for form, path in config.stash[REPORTS].items():
            formats.write(form, run, path)
    except CannotDo as error:
        config.stash[CLOSING] = f"gate: ERROR, {error}"
        return int(pytest.ExitCode.USAGE_ERROR)
    return exitstatus if exitstatus == pytest.ExitCode.TESTS_FAILED else run.exit_code


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    run = terminalreporter.config.stash.get(RUN, None)
    if run is not None:
        write_table(run, terminalreporter)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    closing = config.stash.get(CLOSING, None)
    if reporter is not None and closing is not None:
        reporter.write_line(closing, bold=True, **({"green": True} if "PASS" in closing else {"red": True}))


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn CannotDo into pytest's usage error: one sentence, and exit code 4."""
    try:
        yield
    except CannotDo as error:
        raise pytest.UsageError(str(error)) from error


def _refuse_untimed(config: pytest.Config) -> None:
    """Refuse what leaves nothing to time, or times it beside other work."""
    if not any(map(config.pluginmanager.has_plugin, ("benchmark", "pytest_benchmark.plugin"))):
        raise CannotDo("--gate-base needs pytest-benchmark, which is not loaded: add -p pytest_benchmark.plugin")
    if config.getoption("benchmark_skip") or config.getoption("benchmark_disable"):
        raise CannotDo("--benchmark-disable and --benchmark-skip leave nothing to compare: drop them")
    stored = [name for name in ("save", "autosave", "json", "compare") if config.getoption(f"benchmark_{name}")]
    if stored:
        raise CannotDo(f"--benchmark-{stored[0]} and --gate-base are two kinds of comparison: give one of them")
    parallel = config.getoption("dist", "no") != "no" or bool(config.getoption("numprocesses", None))
    if parallel or "PYTEST_XDIST_WORKER" in os.environ:
        raise CannotDo("timing under -n (pytest-xdist) measures the other workers: drop -n")
