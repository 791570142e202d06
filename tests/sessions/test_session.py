"""What one test leaves for the others: its part of the budget, and why it has no reports."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.judging.policy import Policy
from bench.judging.waivers import Exceptions
from bench.plain.errors import CannotDo
from bench.plain.evidence import Evidence
from bench.sessions.meeting import Own
from bench.sessions.opening import Selection
from bench.sessions.session import Session
from bench.sessions.settings import SessionSettings
from bench.timing.budget import SHARE, SharedBudget


@pytest.fixture
def session() -> Session:
    made = Session(SessionSettings("main", Policy(), 1), {})
    made.compared, made.budget = ["t.py::a", "t.py::b"], SharedBudget(30.0, 2)
    made.selection = Selection(Path(), None, (), (), frozenset(), (), (), (), {}, Path(), {})
    made.exceptions = Exceptions()
    return made


def test_a_test_that_is_not_timed_leaves_its_part_of_the_budget_to_later_ones(session: Session) -> None:
    session.budget.spend(30.0)  # by a test before
    session.budget.cases_left = 2
    assert session.budget.allowance_s() == SHARE * 30.0
    session._add(Evidence("t.py::a", error="failed"), Own())
    assert session.budget.allowance_s() == 2 * SHARE * 30.0


def test_a_test_without_the_fixture_says_which_side_could_not_go_on(session: Session) -> None:
    def ready() -> None:
        raise CannotDo("base ended, when it collected its tests: run pytest without the gate")

    stopped: Any = SimpleNamespace(parties=SimpleNamespace(ready=ready))
    session.pair = stopped
    why = "base ended, when it collected its tests: run pytest without the gate"
    assert session.run("t.py::plain", None, uses_fixture=False) == (why, [])
