"""The page of trends, as text and in a real browser."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import Page

from bench.history.page import HEIGHT, WIDTH, Axes, as_html
from bench.history.trends import Group, History, LevelStep, Point, Trend
from bench.history.wording import kind

HOSTILE = "<script>alert(1)</script>"
ENVIRONMENT = (("cpu", "A processor"), ("torch", "2.13.0"), ("threads", "1"))
OLDER = (("cpu", "A processor"), ("torch", "2.12.0"), ("threads", "1"))
START = datetime(2026, 10, 1, tzinfo=UTC)

Open = Callable[..., Page]


def trend(case_id: str, *levels: float, judged: bool = True) -> Trend:
    """Four baselines a level, with a step at each change of level."""
    times = [level * (1 + 0.01 * (i % 2)) for level in levels for i in range(4)]
    points = [
        Point(START + timedelta(days=i), f"{i:04}_stored.json", "abc1234", ns, 0.97 * ns, 1.05 * ns)
        for i, ns in enumerate(times)
    ]
    found = [
        LevelStep(4 * (i + 1), before, after, 1e-5, 4 * (i + 2)) for i, (before, after) in enumerate(pairwise(levels))
    ]
    return Trend(case_id, tuple(points), tuple(s for s in found if s.ratio != 1) if judged else None)


def history(*trends: Trend) -> History:
    files = tuple(point.file for point in trends[0].points)
    older = replace(trends[0], case_id="older", points=trends[0].points[:1], steps=None)
    groups = (Group(ENVIRONMENT, files, trends), Group(OLDER, files[:1], (older,)))
    return History(groups, (("foreign.json", f"not stored by pytest-benchmark {HOSTILE}"),), "Apache Otava 0.8.0")


@pytest.fixture(scope="module")
def text() -> str:
    steady = [trend(f"sdpa-b1h8t{t}d64-causal-fp32-cpu-fwd", 1e6, 1e6) for t in range(64, 94)]
    slower, faster = trend("masked-b1h8t128d64-full-fp32-cpu-fwd", 1e6, 1.2e6), trend("manual-b1h4t64d32", 1e6, 8e5)
    return as_html(history(*steady, slower, faster, trend(f"outside{HOSTILE}", 1e3, judged=False)))


@pytest.fixture
def page(reopen: Open, text: str) -> Page:
    return reopen(text)


def test_a_trend_is_judged_by_where_it_ended_if_it_was_searched() -> None:
    words = {(1.0,): "STEADY", (1.0, 1.1): "SLOWER", (1.0, 0.9): "FASTER", (1.0, 0.8, 1.0): "STEADY"}
    assert {levels: kind(trend("c", *levels)) for levels in words} == words
    assert kind(trend("c", 1.0, judged=False)) == "NOT JUDGED"


@pytest.mark.parametrize("levels", [(1e6,), (1e6, 1.2e6, 5e5)])
def test_a_plot_stays_inside_its_frame_and_slower_is_higher(levels: tuple[float, ...]) -> None:
    points = trend("c", *levels).points
    axes = Axes.of(trend("c", *levels))
    assert all(0 <= axes.x(i) <= WIDTH for i in range(len(points)))
    assert all(0 <= axes.y(p.high_ns) <= axes.y(p.ns_per_call) <= axes.y(p.low_ns) <= HEIGHT for p in points)


def test_a_plot_has_a_dot_a_baseline_a_line_a_level_and_a_break_a_step() -> None:
    stepping = trend("c", 1e6, 1.2e6, 5e5)
    drawn = as_html(history(stepping)).partition('<li class="trend')[2].partition("<details>")[0]
    assert [drawn.count(f'class="{part}"') for part in ("band", "break", "level")] == [1, 2, 3]
    assert drawn.count("<circle ") == 12
    assert all(f"H{Axes.of(stepping).x(last)}" in drawn for last in (3, 7, 11))
    assert "<title>0004_stored.json: 1.2 ms</title>" in drawn


def test_noise_is_not_drawn_as_high_as_a_change() -> None:
    quiet = trend("c", 1e6)
    exact = tuple(replace(point, low_ns=point.ns_per_call, high_ns=point.ns_per_call) for point in quiet.points)
    heights = [Axes.of(replace(quiet, points=exact)).y(point.ns_per_call) for point in exact]
    assert max(heights) - min(heights) < HEIGHT / 8


def test_one_baseline_is_a_dot_in_the_middle() -> None:
    one = trend("c", 1e6)
    assert Axes.of(replace(one, points=one.points[:1])).x(0) == WIDTH / 2


def test_the_page_says_first_how_many_got_slower_and_shows_those_first(text: str) -> None:
    body = text.partition("<body>")[2]
    headline = body.index("34 trends: 1 slower, 1 faster, 30 steady, 2 not judged")
    assert headline < body.index("masked-b1h8t128d64") < body.index("manual-b1h4t64d32") < body.index("sdpa-b1h8t64d64")
    assert "Change points by Apache Otava 0.8.0" in body
    assert "20.0% slower from 0004_stored.json on (2026-10-05, commit abc1234): 1 ms to 1.2 ms, p = 1e-05" in body


def test_trends_are_filtered_by_text_and_by_how_they_ended(page: Page) -> None:
    status, shown = page.get_by_role("status"), page.locator(".trend:visible")
    assert status.inner_text() == "34 of 34 shown"
    page.get_by_role("checkbox", name="STEADY").uncheck()
    assert status.inner_text() == "4 of 34 shown"
    page.get_by_label("Filter by text").fill("masked slower")
    assert shown.count() == 1
    assert page.locator("section[data-group]:visible").count() == 1  # a part without a trend is gone, too


def test_the_figures_of_a_trend_can_be_opened(page: Page) -> None:
    figures = page.locator(".trend").first.locator("details")
    figures.locator("summary").click()
    assert figures.locator("tbody tr:visible").count() == 8


def test_hostile_text_stays_text(page: Page) -> None:
    assert page.locator("script").count() == 1
    assert page.get_by_text(f"not stored by pytest-benchmark {HOSTILE}").count() == 1


def test_the_page_never_scrolls_sideways(page: Page) -> None:
    page.locator("summary").first.click()
    for width in (320, 380, 768, 1400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(open_page: Open, scheme: str) -> None:
    page = open_page(
        as_html(history(trend("a", 1e6, 1.2e6), trend("b", 1e6), trend("c", 1e6, 8e5))), color_scheme=scheme
    )
    page.locator("summary").first.click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_without_scripts_every_trend_is_there(open_page: Open, text: str) -> None:
    page = open_page(text, java_script_enabled=False)
    assert page.locator(".trend:visible").count() == 34
    assert page.locator("form:visible").count() == 0
