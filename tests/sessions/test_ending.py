"""How a run shows its verdicts while it goes on, and how it ends when the system ends it."""

import signal
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench.judging.run import Run
from bench.judging.verdict import Verdict
from bench.plain.errors import CannotDo
from bench.sessions.ending import VERDICT, Ending

from .conftest import Make


def test_each_verdict_has_a_letter_of_its_own_and_none_that_passes_has_one_of_pytest_s_failures() -> None:
    letters = {}
    for verdict in Verdict:
        properties = [(VERDICT, verdict.value)]
        report = pytest.TestReport("test_f", ("", 0, ""), {}, "passed", None, "call", user_properties=properties)
        shown = Ending({}, dict).pytest_report_teststatus(report)
        assert shown is not None
        letters[verdict] = shown[1]
    assert len(set(letters.values())) == len(letters)
    assert {letter for verdict, letter in letters.items() if not verdict.fails}.isdisjoint({"F", "E"})


@pytest.mark.parametrize(
    ("exitstatus", "found", "order"),
    [(pytest.ExitCode.OK, 4, ["finish", "close"]), (pytest.ExitCode.INTERRUPTED, 2, ["close"])],
)
def test_twins_end_before_pytest_s_own_reports_however_the_run_ended(
    exitstatus: pytest.ExitCode, found: int, order: list[str]
) -> None:
    done = []

    def finish() -> Run:
        done.append("finish")
        raise CannotDo("no base")

    assert Ending({}, dict).conclude(finish, lambda: done.append("close"), exitstatus) == found
    assert done == order


def test_a_run_that_the_system_ends_leaves_nothing_behind(repository: Make) -> None:
    ending = """
        import os
        import signal
        import time
        from pathlib import Path

        def test_ended(benchmark):
            benchmark(lambda: None)
            os.kill(int(Path(os.environ["TMPDIR"], "run").read_text()), signal.SIGTERM)
            time.sleep(10)
    """
    marked = """
        import os
        from pathlib import Path

        run = Path(os.environ["TMPDIR"], "run")
        if not run.exists():  # the parent's process is the first
            run.write_text(str(os.getpid()))
    """
    theirs = repository({"conftest.py": marked, "benchmarks/test_ended.py": ending})
    with TemporaryDirectory() as temporary:  # short enough for a socket
        heard = partial(signal.signal, signal.SIGTERM, signal.SIG_DFL)  # whoever runs the tests may ignore it
        outcome = theirs.pytest(TMPDIR=temporary, preexec=heard)
        assert outcome.exit_code == 2, outcome.output
        assert "gate: ERROR, the run did not finish, so there is no verdict" in outcome.output
        assert "Traceback" not in outcome.output
        assert not list(Path(temporary).glob("twinbench-*"))
