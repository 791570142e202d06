"""Shards: every case in exactly one, about equal costs, and the same parts wherever they are dealt."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from attention import KERNELS, MODULES
from bench.judging.shards import deal
from bench.suite.cases import Case, Shape
from bench.suite.cost import cost_of
from bench.suite.matrix import matrix
from bench.suite.shards import STORAGE, costs, seconds_stored
from bench.timing.measure import BURST_NS

CASES = matrix(KERNELS, MODULES, "pr", ("cpu",))
BURST_S = BURST_NS * 1e-9


def case(shape: str, direction: str = "fwd", *, module: bool = False) -> Case:
    return Case("k", module, Shape.parse(shape), "full", "fp32", "cpu", direction)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 500])
def test_every_case_is_in_exactly_one_shard_and_in_its_old_order(count: int) -> None:
    parts = deal(costs(CASES, {}), count)
    order = [c.id for c in CASES]
    assert len(parts) == count
    assert sorted((c for part in parts for c in part), key=order.index) == order
    assert all(part == sorted(part, key=order.index) for part in parts)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shards_cost_about_the_same_by_what_was_stored(count: int) -> None:
    stored = {c.id: random.Random(c.id).expovariate(100) for c in CASES}
    cost = costs(CASES, stored)
    totals = [sum(cost[c] for c in part) for part in deal(cost, count)]
    assert max(totals) - min(totals) < 0.02 * max(totals)


def test_the_parts_do_not_depend_on_the_order_in_which_cases_are_given() -> None:
    shuffled = list(CASES)
    random.Random(0).shuffle(shuffled)
    cost = costs(CASES, {})
    again = deal({c.id: cost[c.id] for c in shuffled}, 3)
    assert [set(part) for part in again] == [set(part) for part in deal(cost, 3)]


def test_a_case_costs_what_was_stored_but_at_least_a_burst() -> None:
    slow, quick, refused = case("b1h1t8d8"), case("b1h1t4d8"), case("b1h1t16d8")
    stored = {slow.id: 0.02, quick.id: 1e-6}
    assert costs({slow: None, quick: None, refused: "cannot"}, stored) == {
        slow.id: 0.02,
        quick.id: BURST_S,
        refused.id: 0.0,
    }


def test_a_case_that_is_only_checked_costs_less_than_any_that_is_timed() -> None:
    timed = case("b1h1t8d8")
    checked = replace(timed, subject="other", timed=False)
    cost = costs({timed: None, checked: None}, {})
    assert cost[timed.id] == BURST_S
    assert cost[checked.id] == pytest.approx(0.1 * BURST_S)


def test_a_case_without_a_stored_time_does_its_arithmetic_at_the_median_rate_of_those_that_have_one() -> None:
    stored = {case(f"b1h1t{length}d64"): rate for length, rate in ((100, 1e7), (200, 3e7), (300, 8e7))}
    asked = case("b1h1t400d64")
    seconds = {known.id: cost_of(known).flops / rate for known, rate in stored.items()}
    cost = costs(dict.fromkeys([*stored, asked]), seconds)
    assert cost[asked.id] == pytest.approx(cost_of(asked).flops / 3e7)
    assert costs({asked: None}, {})[asked.id] == pytest.approx(max(BURST_S, cost_of(asked).flops / 1e10))
    large = case("b1h1t4000d64")
    assert costs({large: None}, {})[large.id] == pytest.approx(cost_of(large).flops / 1e10)


def test_the_shipped_baseline_prices_the_cases_and_no_other_file_does(tmp_path: Path) -> None:
    shipped = seconds_stored()
    known = [c.id for c, unsupported in CASES.items() if unsupported is None and c.id in shipped]
    assert len(known) > 50
    assert all(0 < shipped[id_] < 1 for id_ in known)
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "0002_mine.json").write_text(json.dumps({}))
    assert seconds_stored(tmp_path) == {}
    (newest,) = STORAGE.glob("*/*_shipped.json")
    for name, file in (("0003_shipped.json", "{}"), ("0004_shipped.json", newest.read_text(encoding="utf-8"))):
        (tmp_path / "machine" / name).write_text(file, encoding="utf-8")
    assert seconds_stored(tmp_path) == shipped
    assert list(STORAGE.glob("*/*_shipped.json"))
