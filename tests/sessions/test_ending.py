"""How a run shows its verdicts while it goes on."""

import pytest

from bench.judging.verdict import Verdict
from bench.sessions.ending import VERDICT, Ending


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
