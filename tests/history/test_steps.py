"""The real change-point library, where it is installed: ``make test-history`` installs it and runs this."""

import random
from datetime import UTC, datetime

import pytest

from bench.history import wording
from bench.history.steps import otava
from bench.history.trends import MIN_POINTS, Group, History, Point, Trend, find_steps

pytest.importorskip("otava", reason="Apache Otava is not installed: make test-history")


def noisy(*levels: tuple[int, float], noise: float = 0.02) -> list[float]:
    jitter = random.Random(0)
    return [ns * (1 + jitter.gauss(0, noise)) for count, ns in levels for _ in range(count)]


def judged(*series: list[float]) -> list[Trend]:
    """The trends of these times, judged together."""
    day = datetime(2026, 10, 1, tzinfo=UTC)
    trends = (Trend("case", tuple(Point(day, "", "", ns, ns, ns) for ns in values)) for values in series)
    found = otava()
    assert found is not None
    return find_steps(History((Group((), (), tuple(trends)),)), *found).trends


def find(*series: list[float]) -> list[tuple[int, float]]:
    """Where the trends of these times step, and by which ratio."""
    return [(step.index, step.ratio) for trend in judged(*series) for step in trend.steps or ()]


def test_a_step_of_a_tenth_is_found_where_it_is() -> None:
    ((index, ratio),) = find(noisy((10, 1000.0), (10, 1100.0)))
    assert abs(index - 10) <= 1
    assert ratio == pytest.approx(1.1, abs=0.02)


def test_slow_drift_of_a_percent_at_a_time_is_found_though_no_gate_would() -> None:
    steps = find(noisy(*((1, 1000.0 * 1.01**i) for i in range(40))))
    assert steps
    assert all(ratio > 1 for _, ratio in steps)


def test_an_improvement_that_came_and_went_is_two_steps() -> None:
    (_, down), (_, up) = find(noisy((15, 1000.0), (15, 800.0), (15, 1000.0)))
    assert down < 1 < up


def test_noise_alone_has_no_step_in_fifty_trends() -> None:
    jitter = random.Random(1)
    series = [[1000 * (1 + jitter.gauss(0, 0.02)) for _ in range(40)] for _ in range(50)]
    assert find(*series) == []


@pytest.mark.parametrize("seed", range(8))
def test_a_last_value_by_itself_is_a_hint_until_a_second_one_agrees(seed: int) -> None:
    jitter = random.Random(seed)
    steady = [1000 * (1 + jitter.gauss(0, 0.02)) for _ in range(20)]
    (once,) = judged([*steady, 1300.0])
    assert once.steps == ()
    assert once.hint is not None
    assert once.hint.ratio == pytest.approx(1.3, abs=0.05)
    assert "a hint, until a second time agrees" in wording.steps(once)[0]
    (twice,) = judged([*steady, 1300.0, 1310.0])
    (step,) = twice.steps or ()
    assert step.ratio == pytest.approx(1.3, abs=0.05)
    (gone,) = judged([*steady, 1300.0, *steady[:8]])  # it was the machine
    assert gone.steps == ()
    assert gone.hint is None


def test_a_short_and_constant_series_does_not_trouble_it() -> None:
    assert find([1000.0] * MIN_POINTS) == []


def test_the_finder_names_its_version() -> None:
    found = otava()
    assert found is not None
    assert found[0].startswith("Apache Otava 0.")
