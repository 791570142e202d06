"""How a run ends: its verdicts become pytest's exit code, reports are written, and the last line says pass or fail.

Both plugins register an ``Ending`` where a comparison is asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ..judging.run import PASS, PASS_IN_PART, Run
from ..plain.errors import CannotDo, CannotGoOn
from ..plain.evidence import Place
from ..report import formats
from ..report.annotations import as_annotations
from ..report.terminal import write_table

VERDICT = "verdict"  # the property of a test's report that holds its verdict
FINISHED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


@dataclass(eq=False)  # a plugin of pytest is to be hashable
class Ending:
    """What is known of how a run ends; ``closing`` is its last line. ``places`` returns where tests are written."""

    reports: Mapping[str, Path]  # format -> file
    places: Callable[[], Mapping[str, Place]]
    annotate: bool = False
    run: Run | None = None
    closing: str | None = None
    stopped: str | None = None  # why the run could not go on

    def conclude(self, finish: Callable[[], Run], close: Callable[[], object], exitstatus: int) -> int:
        """Sum up the run, end its processes, and return the exit code.

        Plugins in the twins may write reports as they end. The parent's plugins write the same files after this.
        """
        try:
            return self._conclude(finish, exitstatus)
        finally:
            close()

    def _conclude(self, finish: Callable[[], Run], exitstatus: int) -> int:
        if exitstatus == pytest.ExitCode.USAGE_ERROR and self.stopped is None:  # pytest says why
            return exitstatus
        if exitstatus not in FINISHED and self.stopped is None:
            self.closing = "gate: ERROR, the run did not finish, so there is no verdict"
            return exitstatus
        try:
            self.run = run = finish()
            self.closing = run.closing_line
            for form, path in self.reports.items():
                formats.write(form, run, path)
        except CannotDo as error:
            return self.refuse(error)
        if self.stopped is not None:
            self.closing = f"gate: ERROR, {self.stopped}"
            return int(pytest.ExitCode.USAGE_ERROR)
        return exitstatus if exitstatus == pytest.ExitCode.TESTS_FAILED else run.exit_code

    def stop(self, why: CannotGoOn) -> NoReturn:
        """End pytest's run; what was judged so far is reported all the same."""
        self.stopped = str(why)
        pytest.exit(self.stopped, returncode=pytest.ExitCode.USAGE_ERROR)

    def refuse(self, error: CannotDo) -> int:
        """Take note that the comparison cannot be made; returns the exit code."""
        self.closing = f"gate: ERROR, {error}"
        return int(pytest.ExitCode.USAGE_ERROR)

    def pytest_report_teststatus(self, report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, Any] | None:
        """Return how the terminal shows a report that has a verdict: outcome, a letter, and a word with its colour."""
        properties = dict(getattr(report, "user_properties", ()))
        verdict = properties.get(VERDICT) if report.when == "call" else None
        if verdict is None:
            return None
        # Not the first letter of FASTER: pytest prints F for a failure.
        letter = {"UNCHANGED": "=", "FASTER": "+", "SKIPPED": "s"}.get(str(verdict), str(verdict)[0])
        markup = {"red": True} if report.failed else {"yellow": True} if verdict == "INCONCLUSIVE" else {"green": True}
        return report.outcome, letter, (verdict, markup)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the table, and the annotations if they were asked for."""
        if self.run is None:
            return
        write_table(self.run, terminalreporter)
        if self.annotate:
            for line in as_annotations(self.run, self.places()):
                terminalreporter.write_line(line)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Write the last line, below pytest's own."""
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and self.closing is not None:
            colours = {PASS_IN_PART: "yellow", PASS: "green"}
            colour = next((c for word, c in colours.items() if self.closing.startswith(f"gate: {word}")), "red")
            reporter.write_line(self.closing, bold=True, **{colour: True})


ENDING = pytest.StashKey[Ending]()


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn CannotDo into pytest's usage error: one sentence, and exit code 4."""
    try:
        yield
    except (CannotDo, CannotGoOn) as error:
        raise pytest.UsageError(str(error)) from error
