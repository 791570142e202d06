"""The pytest plugin: thin hooks over ``GateSession``."""

import os
import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from . import options, policy_options, pytest_benchmark_adapter
from .judging.run import Run
from .judging.verdict import Verdict
from .plain.errors import CannotDo, CannotGoOn
from .report import formats
from .report.terminal import describe
from .session import GateSession
from .sessions import arguments, protocol
from .sessions.ending import ENDING, VERDICT, Ending, usage_errors
from .sessions.marker import MARKER
from .sessions.session import Session
from .sessions.twin import NAME as TWIN
from .sources import baseline
from .suite.cases import Case
from .timing import environment
from .twins.party import SideFailed, Unsupported

SESSION = pytest.StashKey[GateSession]()
OTHERS = pytest.StashKey[Session]()  # of tests that use the fixture by themselves
DESELECTED = pytest.StashKey[list[str]]()
INSTALLED = "twinbench"  # the plugin of the wheel, which gates tests that use the fixture by themselves
CASE = "attention_case"  # a test with this argument runs once for each case


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    if pluginmanager.has_plugin(INSTALLED):
        raise pytest.UsageError(
            f"the suite and the installed package {INSTALLED} have the same options: add -p no:{INSTALLED}"
        )
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    arguments.note_environment(config)
    config.addinivalue_line("markers", MARKER)
    if config.pluginmanager.has_plugin(TWIN):  # the parent judges
        config.pluginmanager.unregister(sys.modules[__name__])
        return
    with usage_errors():
        policy_options.refuse_without_fixture(config)
        settings = options.settings(config)
        _refuse_untimed(config, comparing=settings.comparing)
        if settings.comparing:
            pytest_benchmark_adapter.take_over_comparison(config)
        session = GateSession.start(settings)
    config.add_cleanup(session.resources.close)
    config.stash[SESSION] = session
    config.stash[ENDING] = Ending(settings.reports, lambda: session.places(config.rootpath), settings.annotate)
    config.pluginmanager.register(config.stash[ENDING])
    config.stash[DESELECTED] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    config, gate = session.config, session.config.stash[SESSION]
    with usage_errors():
        pytest_benchmark_adapter.save_atomically(config)
        formats.check(gate.settings.reports)
        if gate.settings.comparing:
            gate.prepare_comparison(config)


def pytest_report_header(config: pytest.Config) -> str:
    return config.stash[SESSION].header


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if CASE in metafunc.fixturenames:
        cases = metafunc.config.stash[SESSION].cases
        on_gpu = {"cuda": (pytest.mark.cuda,)}
        metafunc.parametrize(CASE, [pytest.param(c, id=c.id, marks=on_gpu.get(c.device, ())) for c in cases])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # After -k and -m, so that every shard splits the same selection.
    cases = {item: _params(item)[CASE] for item in items if CASE in _params(item)}
    with usage_errors():
        mine = set(config.stash[SESSION].take_shard(list(cases.values())))
    others = {item for item, case in cases.items() if case not in mine}
    if others:
        config.hook.pytest_deselected(items=list(others))
        items[:] = [item for item in items if item not in others]


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        item.config.stash[DESELECTED].append(item.nodeid)


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if config.option.collectonly:
        return
    params = [_params(item) for item in session.items]
    gate = config.stash[SESSION]
    others = [item for item in session.items if CASE not in _params(item) and arguments.uses_fixture(item)]
    with usage_errors():
        if others and gate.settings.comparing:
            config.stash[OTHERS] = gate.compare_others(
                arguments.selection(config, others, [*(i.nodeid for i in session.items), *config.stash[DESELECTED]])
            )
        gate.choose([p[CASE] for p in params if CASE in p])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    others = item.config.stash.get(OTHERS, None)
    if others is None or item.nodeid not in others.selection.tests:
        return None
    protocol.run(others, item, nextitem)
    return True


def _params(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


@pytest.fixture
def run_case(
    request: pytest.FixtureRequest, benchmark: BenchmarkFixture, record_property: Any
) -> Callable[[Case], None]:
    """Check and time a case; in a comparison, judge it against the base."""
    session = request.config.stash[SESSION]

    def run(case: Case) -> None:
        if not session.settings.comparing:
            try:
                session.time(case, benchmark)
            except Unsupported as reason:
                pytest.skip(str(reason))
            except SideFailed as failure:
                pytest.fail(str(failure), pytrace=False)
            return
        try:
            result = session.compare(case, benchmark)
        except CannotGoOn as why:
            request.config.stash[ENDING].stop(why)
        record_property(VERDICT, result.verdict.value)
        if result.verdict is Verdict.SKIPPED:
            pytest.skip(result.reasons[0])
        if result.verdict.fails:
            pytest.fail(describe(result, session.repeatable), pytrace=False)

    return run


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, object, object]:
    # Before pytest-benchmark's own hook, which saves: a run that failed must not become the next baseline.
    config, ending = session.config, session.config.stash[ENDING]
    if config.stash[SESSION].settings.comparing and not config.option.collectonly:
        others = config.stash.get(OTHERS, None)  # the twins of cases run no pytest, and say where annotations go
        close = (lambda: None) if others is None else others.resources.close
        session.exitstatus = ending.conclude(partial(_finish, config), close, exitstatus)
    if session.exitstatus != pytest.ExitCode.OK and pytest_benchmark_adapter.withhold_saving(config):
        ending.closing = f"{ending.closing or 'benchmarks failed'}; no baseline was saved"
    try:
        return (yield)
    except CannotDo as error:
        session.exitstatus = ending.refuse(error)
        return None


def _finish(config: pytest.Config) -> Run:
    """Sum up the matrix, and the benchmarks beside it."""
    run = config.stash[SESSION].finish()
    if (others := config.stash.get(OTHERS, None)) is None:
        return run
    more = others.finish()
    return replace(run, cases=(*run.cases, *more.cases), notes=(*run.notes, *more.notes))


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    session = config.stash[SESSION]
    output_json[baseline.KEY] = baseline.our_part(
        session.head_source, environment.describe(session.allocator), session.untimed
    )


def _refuse_untimed(config: pytest.Config, *, comparing: bool) -> None:
    """Refuse options under which pytest-benchmark would silently not time, compare or save."""
    read = config.getoption
    if "PYTEST_XDIST_WORKER" in os.environ or config.option.collectonly:
        return
    disabled = policy_options.disabled_by(config) is not None
    storing = bool(read("benchmark_save") or read("benchmark_autosave") or read("benchmark_json"))
    if comparing or storing:
        policy_options.refuse_disabled(config, "compare or save")
    if policy_options.is_parallel(config) and not disabled and (comparing or storing or _names_benchmarks(config)):
        raise pytest.UsageError(
            "timing under -n (pytest-xdist) measures the other workers: drop -n, or give --benchmark-disable to only "
            "check the outputs"
        )


def _names_benchmarks(config: pytest.Config) -> bool:
    bench = Path(__file__).resolve().parent
    named = [(config.invocation_params.dir / arg.partition("::")[0]).resolve() for arg in config.args]
    return any(path == bench or bench in path.parents or path in bench.parents for path in named)
