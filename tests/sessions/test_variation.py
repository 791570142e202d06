"""Which differences between results are told from variation, and after how many runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.judging.statistics import chance_of_difference
from bench.sessions import variation
from bench.sessions.difference import Difference
from bench.sessions.variation import FEWEST, MOST, Again

LEVEL = 0.001


@dataclass(frozen=True)
class Runs(Again):
    """Runs that went as the test says: for each, what varied in the base and what differed in the head."""

    went: Iterator[tuple[str, str]] = field(kw_only=True)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def _run(self, tests: Sequence[str], reference: Path) -> Any:
        self.asked.append(tuple(tests))
        try:
            sides = next(self.went)
        except StopIteration:
            raise variation._NotReached from None
        return tuple({name: Difference(f"{name} is off") for name in side.split()} for side in sides)


def again(*went: tuple[str, str], before: tuple[str, ...] = ()) -> Runs:
    start = SimpleNamespace(result=Path("no-such-folder") / "base.result")
    pair: Any = SimpleNamespace(starts={"base": start})
    return Runs(pair, before, "t", went=iter(went))


def test_what_differs_in_each_of_five_runs_differs() -> None:
    runs = again(*(("", "r"),) * 5)
    assert runs.varying(["r"], LEVEL) == {}
    assert len(runs.asked) == 5
    assert chance_of_difference(5, 5) < LEVEL < chance_of_difference(4, 4)


def test_a_run_that_has_failed_asks_for_one_more_run_of_each_side() -> None:
    runs = again(("", "r"), ("", "r"))
    assert runs.varying(["r"], 1.0) == {}
    assert len(runs.asked) == 2


def test_what_varies_in_the_base_is_said_and_hides_no_other_part() -> None:
    runs = again(("", "r a"), ("r", "r a"), *(("", "r a"),) * 3)
    assert runs.varying(["r", "a"], LEVEL) == {"r": "the base's own differ from run to run (r is off)"}


def test_a_head_that_differs_now_and_then_differs_if_that_is_too_often_for_chance() -> None:
    every_second = [("", "r"), ("", "")] * 7
    assert again(*every_second).varying(["r"], LEVEL) == {}
    rarely = [("", "r"), *[("", "")] * (MOST - 1)]
    runs = again(*rarely)
    assert runs.varying(["r"], LEVEL) == {"r": f"the head's result differs from the base's in 1 of {MOST} runs"}
    assert len(runs.asked) == MOST


def test_a_difference_that_earlier_tests_make_is_looked_for_after_these() -> None:
    alone = [("", "")] * FEWEST
    runs = again(*alone, *(("", "r"),) * 5, before=("s",))
    assert runs.varying(["r"], LEVEL) == {}
    assert runs.asked == [("t",)] * FEWEST + [("s", "t")] * 5
    unseen = {"r": f"the head's result differed once, and in none of {FEWEST} further runs"}
    assert again(*alone, *alone, before=("s",)).varying(["r"], LEVEL) == unseen
    assert again(*alone).varying(["r"], LEVEL) == unseen


def test_what_was_seen_stands_if_the_test_cannot_be_run_again() -> None:
    assert again().varying(["r"], LEVEL) == {}
    assert again(("", ""), ("", "")).varying(["r"], LEVEL) == {}


def test_results_that_both_sides_draw_alike_are_hardly_ever_told_to_differ() -> None:
    """By the exact probability of each way in which runs of a result of two values can go."""

    @cache
    def told(other: float, runs: int = 0, differing: int = 0) -> float:
        """Return it where a run gives with probability ``other`` not what the base's first gave."""
        if runs and chance_of_difference(runs, differing) <= LEVEL:
            return 1.0
        if runs == MOST or (runs == FEWEST and not differing):
            return 0.0
        base_agrees = 1 - other if runs else 1.0
        head_differs, head_agrees = (told(other, runs + 1, differing + more) for more in (1, 0))
        return base_agrees * (other * head_differs + (1 - other) * head_agrees)

    for p in (0.02, 0.1, 0.3, 0.5):
        differ_at_first = 2 * p * (1 - p)
        assert differ_at_first * ((1 - p) * told(p) + p * told(1 - p)) < 2 * LEVEL
