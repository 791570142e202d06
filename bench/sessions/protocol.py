"""How pytest's own session runs an item by the twins, and reports it."""

from collections.abc import Iterator
from typing import Any

import pytest

from ..judging.verdict import CaseResult, Verdict
from ..report.terminal import describe
from .session import Session

VERDICT = "verdict"  # the property of a test's report that holds its verdict


def run(session: Session, item: pytest.Item, nextitem: pytest.Item | None) -> CaseResult | None:
    """Run an item in the twins, in the place of pytest; returns its result, if it uses the fixture."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    uses_fixture = item.nodeid in session.selection.tests
    following = None if nextitem is None else nextitem.nodeid
    result, data = session.run(item.nodeid, following, uses_fixture=uses_fixture)
    for report in _reports(item, session, result, data):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return result


def _reports(
    item: pytest.Item, session: Session, result: CaseResult | None, data: list[Any]
) -> Iterator[pytest.TestReport]:
    """Return the head's reports, made into those of the verdict where there is one."""
    read = item.config.hook.pytest_report_from_serializable
    reports = [read(config=item.config, data=one) for one in data]
    if reports and (result is None or result.verdict is Verdict.SKIPPED):
        yield from reports
        return
    phases = {report.when: report for report in reports}
    for phase in ("setup", "call", "teardown"):
        report = phases.get(phase) or pytest.TestReport(item.nodeid, item.location, {}, "passed", None, phase)
        report.outcome, report.longrepr = "passed", None  # the verdict says what failed
        if phase == "call" and result is None:
            report.outcome, report.longrepr = "failed", "the head's process ended in this test"
        elif phase == "call" and result is not None:
            report.user_properties = [*report.user_properties, (VERDICT, result.verdict.value)]
            if session.settings.policy.fails(result.verdict):
                report.outcome, report.longrepr = "failed", describe(result, session.repeatable)
        yield report


def status(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, Any] | None:
    """Return how the terminal shows a report that has a verdict: its outcome, a letter, and a word with its colour."""
    properties = dict(getattr(report, "user_properties", ()))
    verdict = properties.get(VERDICT) if report.when == "call" else None
    if verdict is None:
        return None
    letter = {"UNCHANGED": "=", "SKIPPED": "s"}.get(str(verdict), str(verdict)[0])
    markup = {"red": True} if report.failed else {"yellow": True} if verdict == "INCONCLUSIVE" else {"green": True}
    return report.outcome, letter, (verdict, markup)
