"""How pytest's own session runs an item: in the twins, or without a base, by itself and held to its reference."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from .. import pytest_benchmark_adapter
from ..judging.verdict import CaseResult, Verdict
from ..plain.errors import CannotDo, CannotGoOn
from ..pytest_benchmark_adapter import BenchmarkCall
from ..report.terminal import describe
from .ending import ENDING, VERDICT
from .marker import own
from .reference import Reference, errors, expect
from .session import Session


def check_by_reference(item: pytest.Item, benchmark: BenchmarkFixture) -> None:
    """Make a test fail whose call returns something else than the reference that it names."""
    if item.get_closest_marker("gate") is None:
        return
    try:
        _, oracle = own(item)
    except CannotDo as error:
        pytest.fail(str(error), pytrace=False)
    if oracle is not None:
        pytest_benchmark_adapter.redirect(benchmark, partial(_checked, oracle))


def _checked(oracle: Reference, call: BenchmarkCall, go_on: Callable[[], Any]) -> Any:
    args, kwargs = call.arguments()
    try:
        expected = expect(oracle, args, kwargs)
        found = errors(call.once(args, kwargs), expected)
    except CannotDo as error:
        pytest.fail(str(error), pytrace=False)
    if complaints := [complaint for error in found for complaint in error.complaints]:
        pytest.fail("\n".join(complaints), pytrace=False)
    return go_on()


def run(session: Session, item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Run an item in the twins, in the place of pytest."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    uses_fixture = item.nodeid in session.selection.tests
    following = None if nextitem is None else nextitem.nodeid
    try:
        result, data = session.run(item.nodeid, following, uses_fixture=uses_fixture)
    except CannotGoOn as why:
        item.config.stash[ENDING].stop(why)
    for report in _reports(item, session, result, data):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _reports(
    item: pytest.Item, session: Session, result: CaseResult | str, data: list[Any]
) -> Iterator[pytest.TestReport]:
    """Return the head's reports, made into those of the verdict where there is one."""
    read = item.config.hook.pytest_report_from_serializable
    reports = [read(config=item.config, data=one) for one in data]
    if reports and (isinstance(result, str) or result.verdict is Verdict.SKIPPED):
        yield from reports
        return
    phases = {report.when: report for report in reports}
    for phase in ("setup", "call", "teardown"):
        report = phases.get(phase) or pytest.TestReport(item.nodeid, item.location, {}, "passed", None, phase)
        report.outcome, report.longrepr = "passed", None  # the verdict says what failed
        if phase == "call" and isinstance(result, str):
            report.outcome, report.longrepr = "failed", result
        elif phase == "call" and not isinstance(result, str):
            report.user_properties = [*report.user_properties, (VERDICT, result.verdict.value)]
            if result.verdict.fails:
                report.outcome, report.longrepr = "failed", describe(result, session.repeatable)
        yield report
