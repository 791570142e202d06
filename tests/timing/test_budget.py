"""The shared budget: bounded in all, and what is saved goes to whoever needs it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.timing.budget import ENOUGH_PAIRS, SHARE, SharedBudget


def test_the_first_case_may_take_the_whole_cap() -> None:
    assert SharedBudget(10.0, 100).allowance_s() == 10.0
    assert SharedBudget(10.0, 1).allowance_s() == 10.0


def test_an_undecided_case_gets_what_decided_ones_saved() -> None:
    budget = SharedBudget(10.0, 100)
    budget.spend(10.0)  # undecided: the credit is gone
    assert budget.allowance_s() == pytest.approx(2 * SHARE * 10.0, rel=0.01)
    for _ in range(20):
        budget.spend(SHARE * 10.0 / 4)  # decided early
    assert budget.allowance_s() == pytest.approx(min(10.0, (20 * 0.75 + 2) * SHARE * 10.0))


def test_a_case_of_long_calls_has_the_time_of_enough_pairs_up_to_the_cap() -> None:
    budget = SharedBudget(10.0, 100)
    budget.spend(200.0)  # nothing is left
    assert budget.allowance_s(0.001) == SHARE * 10.0
    assert budget.allowance_s(0.05) == ENOUGH_PAIRS * 0.05
    assert budget.allowance_s(3.0) == 10.0


def test_a_case_has_its_share_though_another_took_more_than_was_left() -> None:
    budget = SharedBudget(10.0, 100)
    budget.spend(30.0)
    assert budget.allowance_s() == SHARE * 10.0


@settings(derandomize=True)
@given(st.integers(1, 200), st.lists(st.floats(0, 1), min_size=200, max_size=200))
def test_no_way_of_spending_takes_more_than_the_whole_or_leaves_a_case_without_its_share(
    cases: int, greed: list[float]
) -> None:
    budget = SharedBudget(10.0, cases)
    spent = 0.0
    for i in range(cases):
        allowance = budget.allowance_s()
        assert SHARE * 10.0 - 1e-9 <= allowance <= 10.0
        budget.spend(allowance * greed[i])
        spent += allowance * greed[i]
    assert spent <= 10.0 * (1 + SHARE * cases) + 1e-6
