"""The page of a run in a real browser, used as a reviewer would: sort, filter, open, print, narrow, dark, keyboard."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import Browser, Page, expect

from bench.judging.run import Run
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence
from bench.report.as_html import as_html

SHOWN = "tbody[data-kind]:not([hidden])"
RATIO, HEAD = 2, 5  # columns
FILTERS = {"masked": 3, "MASKED fwdbwd": 1, "flash -> math": 1, "</td>": 1, "no such case": 0, "  ": 52}

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def text(large_run: Run) -> str:
    return as_html(large_run)


@pytest.fixture
def page(reopen: Open, text: str) -> Page:
    return reopen(text)


def values(page: Page, column: int = RATIO) -> list[str]:
    """What the shown rows are sorted by, in the order in which they stand."""
    script = "(bodies, column) => bodies.map(body => body.rows[0].cells[column].dataset.value)"
    found: list[str] = page.locator(SHOWN).evaluate_all(script, column)
    return found


def known(page: Page, column: int = RATIO) -> list[float]:
    """The figures in a column of the shown rows; rows without one must come last."""
    found = values(page, column)
    figures = [float(value) for value in found if value]
    assert found[len(figures) :] == [""] * (len(found) - len(figures))
    return figures


def sorted_by(page: Page) -> list[tuple[str, str]]:
    script = "all => all.map(th => [th.querySelector('button').textContent, th.getAttribute('aria-sort')])"
    return [(name, order) for name, order in page.locator("th[aria-sort]").evaluate_all(script)]


def count(page: Page) -> str:
    return page.locator("[role=status]").inner_text()


def focus(page: Page) -> str:
    name: str = page.evaluate("document.activeElement.textContent")
    return name


def tab_to(page: Page, name: str) -> None:
    """Reach an element by the keyboard alone."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if focus(page) == name:
            return
    pytest.fail(f"{name} cannot be reached")


def test_a_click_sorts_up_another_down_and_a_third_restores_the_worst_first(page: Page) -> None:
    worst_first = values(page, 0)
    ratio = page.get_by_role("button", name="Ratio")
    ratio.click()
    up = known(page)
    assert up == sorted(up)
    assert up[0] == 0.3
    assert sorted_by(page) == [("Ratio", "ascending")]
    ratio.click()
    assert known(page) == sorted(up, reverse=True)
    assert sorted_by(page) == [("Ratio", "descending")]
    ratio.click()
    assert sorted_by(page) == []
    assert values(page, 0) == worst_first


def test_the_keyboard_sorts_as_the_mouse_does(page: Page) -> None:
    tab_to(page, "Ratio")
    page.keyboard.press("Enter")
    up = known(page)
    assert up == sorted(up)
    page.keyboard.press("Space")
    assert known(page) == sorted(up, reverse=True)
    assert focus(page) == "Ratio"


def test_figures_sort_by_size_and_not_by_spelling(page: Page) -> None:
    page.get_by_role("button", name="Head").click()
    times = known(page, HEAD)
    assert times == sorted(times)
    assert (times[0], times[-1]) == (300e3, 3.5e6)


def test_another_heading_takes_over_and_cases_sort_by_their_numbers(page: Page) -> None:
    page.get_by_role("button", name="Ratio").click()
    page.get_by_role("button", name="Case", exact=True).click()
    assert sorted_by(page) == [("Case", "ascending")]
    sizes = [name for name in values(page, 0) if name.startswith("sdpa-b1h8t") and "causal-fp32-cpu-fwd" in name]
    assert sizes.index("sdpa-b1h8t99d64-causal-fp32-cpu-fwd") < sizes.index("sdpa-b1h8t100d64-causal-fp32-cpu-fwd")


def test_verdicts_sort_by_how_bad_they_are(page: Page) -> None:
    page.get_by_role("button", name="Verdict").click()
    page.get_by_role("button", name="Verdict").click()
    assert page.locator(SHOWN).first.get_attribute("data-kind") == "UNCHANGED"
    assert page.locator(SHOWN).last.get_attribute("data-kind") == "ERROR"


def test_skipped_cases_are_folded_away_until_they_are_asked_for(page: Page) -> None:
    assert count(page) == "52 of 77 shown"
    page.get_by_role("checkbox", name="SKIPPED").check()
    assert count(page) == "77 of 77 shown"
    assert page.locator(SHOWN).count() == 77


def test_text_filters_by_every_word_of_name_verdict_and_reason(page: Page) -> None:
    for words, shown in FILTERS.items():
        page.get_by_label("Filter by text").fill(words)
        assert count(page) == f"{shown} of 77 shown", words
        assert page.locator(SHOWN).count() == shown, words


def test_verdicts_filter_together_with_text_and_stay_filtered_while_sorted(page: Page) -> None:
    page.get_by_role("checkbox", name="UNCHANGED").uncheck()
    page.get_by_label("Filter by text").fill("sdpa")
    assert count(page) == "3 of 77 shown"
    page.get_by_role("button", name="Ratio").click()
    assert known(page) == [1.02, 1.198, 3.5]
    page.get_by_label("Filter by text").press("Enter")  # must not send the form anywhere
    assert count(page) == "3 of 77 shown"


def test_a_case_opens_and_closes_by_mouse_and_keyboard_and_takes_its_details_along(page: Page) -> None:
    assert page.locator("tr.details:visible").count() == 0
    changed = page.get_by_role("button", name="sdpa-b1h4t256d64-boolmask-fp32-cpu-fwd")
    assert changed.get_attribute("aria-expanded") == "false"
    changed.click()
    assert changed.get_attribute("aria-expanded") == "true"
    details = page.locator("tr.details:visible")
    assert details.count() == 1
    assert "backend changed\tflash\tmath" in details.inner_text()
    page.get_by_role("button", name="Ratio").click()
    assert details.evaluate("row => row.previousElementSibling.cells[0].dataset.value").endswith(
        "boolmask-fp32-cpu-fwd"
    )
    changed.focus()
    page.keyboard.press("Space")
    assert details.count() == 0


def test_a_message_keeps_its_lines_in_the_details(open_page: Open, make_run: Callable[..., Run]) -> None:
    text = "head raised ValueError: first\n    second\nthird"
    page = open_page(as_html(make_run(CaseResult(Evidence("k"), Verdict.ERROR, (text,)))))
    page.get_by_role("button", name="k", exact=True).click()
    assert page.locator("tr.details p").inner_text() == text


def test_a_card_leads_to_its_row(page: Page) -> None:
    page.get_by_role("link", name="gone-b1h4t64d32-full-fp32-cpu-fwd").click()
    row = page.locator("tbody:target")
    assert row.get_attribute("data-kind") == "MISSING"
    expect(row).to_be_in_viewport()
    assert row.evaluate("row => row.getBoundingClientRect().top > document.querySelector('thead').offsetHeight")


def test_a_click_copies_the_command_of_a_failing_case(open_page: Open, large_run: Run) -> None:
    page = open_page(as_html(replace(large_run, options=("--gate-base=main",))))
    page.get_by_role("button", name="Copy").first.click()
    expect(page.locator("button.copy").first).to_have_text(re.compile("Copied|Selected"))
    command = page.locator(".card code").first.inner_text()
    assert command.startswith("pytest bench/ -k ")
    assert page.evaluate("getSelection().toString()") == command


def test_the_page_never_scrolls_sideways(open_page: Open, large_run: Run) -> None:
    page = open_page(as_html(replace(large_run, options=("--gate-base=main",))))
    page.locator("button.toggle").nth(1).click()
    for width in (320, 380, 768, 1359, 1360, 1400, 2200):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_on_a_narrow_screen_the_table_scrolls_inside_its_region_by_keyboard(open_page: Open, text: str) -> None:
    page = open_page(text, viewport={"width": 380, "height": 800})
    region = page.get_by_role("group", name="Table of every case")
    assert region.get_attribute("tabindex") == "0"  # chromium focuses what scrolls by itself, other browsers do not
    region.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)  # the browser scrolls gently
    assert region.evaluate("region => region.scrollLeft") > 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 380)])
def test_axe_finds_no_barrier(open_page: Open, large_run: Run, scheme: str, width: int) -> None:
    few = {case.verdict: case for case in large_run.cases}.values()  # the same row a hundred times takes it seconds
    page = open_page(
        as_html(replace(large_run, cases=tuple(few), options=("--gate-base=main",))),
        color_scheme=scheme,
        viewport={"width": width, "height": 800},
    )
    page.get_by_role("button", name="sdpa-b1h4t256d64-boolmask-fp32-cpu-fwd").click()
    page.get_by_role("button", name="Ratio").click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_scheme_and_motion_are_those_that_the_reader_s_system_asks_for(page: Page) -> None:
    for media, what, value in (
        ({"color_scheme": "dark"}, "backgroundColor", "rgb(20, 23, 26)"),
        ({"color_scheme": "light"}, "backgroundColor", "rgb(255, 255, 255)"),
        ({"reduced_motion": "reduce"}, "scrollBehavior", "auto"),
        ({"reduced_motion": "no-preference"}, "scrollBehavior", "smooth"),
    ):
        page.emulate_media(**media)  # type: ignore[arg-type]  # each is one of its own words
        assert page.evaluate(f"getComputedStyle(document.documentElement).{what}") == value, media


def test_without_scripts_every_case_and_detail_is_there_and_no_dead_control(open_page: Open, text: str) -> None:
    page = open_page(text, java_script_enabled=False)
    assert page.locator("tbody[data-kind]:visible").count() == 77
    assert page.locator("tr.details:visible").count() == 50
    assert page.locator("form:visible").count() == 0
    assert page.locator("button:enabled").count() == 0


def test_on_paper_there_are_the_rows_that_were_chosen_and_no_controls(open_page: Open, text: str) -> None:
    page = open_page(text)
    page.get_by_label("Filter by text").fill("masked")
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 1030, "height": 700})  # A4 across, without its margins
    assert page.evaluate("document.documentElement.scrollWidth") == 1030
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("form:visible").count() == 0
    assert page.locator("tbody[data-kind]:visible").count() == 3
    assert len(page.pdf()) > 10_000


def test_hostile_text_stays_text(page: Page) -> None:
    assert page.title().startswith("gate: FAIL")
    assert page.locator("img, iframe, object").count() == 0


def test_the_policy_would_stop_what_got_in(browser: Browser, text: str) -> None:
    page = browser.new_page()
    page.set_content(text)
    blocked = page.evaluate(
        """() => new Promise(resolve => {
            document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective));
            const image = document.createElement("img");
            image.src = "data:image/gif;base64,R0lGODlhAQABAAAAACw=";
            document.body.append(image);
        })"""
    )
    page.close()
    assert blocked == "img-src"
