"""The page as text: what it says first, that it loads nothing, that nothing hostile gets in, that it can be read."""

import base64
import hashlib
import html
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

import pytest

from bench.judging.run import Run
from bench.judging.verdict import FAILING, CaseResult, Verdict
from bench.plain.evidence import Evidence, TensorError
from bench.report.as_html import TABLE, as_html

OVER = TensorError("out", float("inf"), 0.0, 0.0, complaints=("out: shape",))
Make = Callable[..., Run]
TONES = {verdict.tone for verdict in Verdict}


def test_the_page_begins_with_the_verdict_and_what_to_do(large_run: Run) -> None:
    body = html.unescape(as_html(large_run)).partition("<body>")[2]
    headline = "<strong>FAIL</strong> 1 ERROR, 1 DRIFTED, 2 REGRESSED, 1 CHANGED, 1 MISSING of 50 compared cases"
    places = [body.index(text) for text in (headline, "What to do", "What fails", "<table")]
    assert places == sorted(places)


@pytest.mark.parametrize("verdict", FAILING)
def test_what_to_do_about_a_verdict_is_what_every_report_says(make_run: Make, verdict: Verdict) -> None:
    page = as_html(make_run(CaseResult(Evidence("a"), verdict, ratio=1.0)))
    (step,) = re.findall(r'<dl class="steps">.*?<dd>(.*?)</dd>', page, flags=re.DOTALL)
    told = verdict.what_to_do
    assert told is not None
    assert html.unescape(re.sub("</?code>", "`", step)) == told[0].upper() + told[1:]


def test_more_failures_than_there_are_cards_are_counted(make_run: Make) -> None:
    page = as_html(make_run(*(CaseResult(Evidence(f"case-{i}"), Verdict.ERROR, ("no",)) for i in range(15))))
    assert "3 more fail" in page


def test_the_first_reasons_are_in_the_row_and_all_in_the_details(make_run: Make) -> None:
    reasons = tuple(f"reason {letter}" for letter in "abcd")
    open_case, closed_case = (
        CaseResult(Evidence("a", errors=(OVER,)), Verdict.DRIFTED, reasons),
        CaseResult(Evidence("b"), Verdict.ERROR, reasons),
    )
    page = as_html(make_run(open_case, closed_case))
    closed_row, _, open_row = page.partition("<tbody")[2].partition('<tbody id="case-1"')
    assert open_row.index("reason b") < open_row.index("and 2 more in its details") < open_row.index('class="details"')
    assert open_row.index('class="details"') < open_row.index("<p>reason c")
    assert "<p>reason d" in closed_row
    assert "more in its details" not in closed_row


def test_a_message_of_many_lines_is_its_first_everywhere_but_in_the_details(make_run: Make) -> None:
    text = "head raised ValueError: \x1b[31mno\n" + "second\n" + "x" * 3_000_000
    page = as_html(make_run(CaseResult(Evidence("a"), Verdict.ERROR, (text,))))
    before, _, opened = page.partition('class="details"')
    assert before.count("head raised ValueError: no…") == 4  # the title, the card, the row, what the filter reads
    assert "second" not in before
    assert "<p>head raised ValueError: no\nsecond\nxxx" in opened
    assert "\x1b" not in page
    assert len(page) < 60_000


def test_text_from_a_case_stays_text(large_run: Run) -> None:
    page = as_html(large_run)
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7*7 }}" in page


def test_the_page_refers_to_nothing_outside_itself(large_run: Run) -> None:
    page = as_html(large_run)
    assert not re.findall(r"https?:|//[a-z]|@import|url\(|\bsrc=[\"']", re.sub(r"&lt;.*?&gt;", "", page))
    assert set(re.findall(r'href="(.)', page)) == {"#"}


def test_the_page_may_run_its_own_script_and_style_and_nothing_else(large_run: Run) -> None:
    page = as_html(large_run)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    policy = html.unescape(policy)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert " style=" not in page  # the policy forbids it


def test_an_error_without_bound_is_shown_and_sorted_as_the_largest(make_run: Make) -> None:
    page = as_html(make_run(CaseResult(Evidence("a", errors=(OVER,)), Verdict.DRIFTED)))
    assert 'data-value="Infinity"' in page
    assert "inf%" in page


def test_each_row_has_a_cell_for_each_heading(large_run: Run) -> None:
    page = as_html(large_run)
    rows = re.findall(r'<tbody id="case-\d+".*?>\s*<tr>(.*?)</tr>', page, flags=re.DOTALL)
    assert len(rows) == 77
    assert {len(re.findall(r"<t[dh] ", row)) for row in rows} == {len(TABLE)}


def test_a_report_without_measurements_is_written_too(large_run: Run) -> None:
    bare = [
        replace(case, evidence=Evidence(case.id, head_fingerprint=case.head_fingerprint)) for case in large_run.cases
    ]
    assert "Measurements" not in as_html(replace(large_run, cases=tuple(bare), load=None))


def schemes() -> dict[str, dict[str, str]]:
    """The colours of ``colours.css``: scheme -> variable -> #rrggbb."""
    text = (files("bench.report") / "page" / "colours.css").read_text(encoding="utf-8")
    light, dark = text.split("@media")
    return {name: dict(re.findall(r"--(\w+): (#\w{6})", part)) for name, part in (("light", light), ("dark", dark))}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["ground", "raised"])
def test_every_text_colour_can_be_read_on_every_ground(scheme: str, ground: str) -> None:
    colours = schemes()[scheme]
    texts = set(colours) - {"ground", "raised", "line", "band"}
    assert {"text", "muted", "link", *TONES} == texts
    assert {
        name: contrast(colours[name], colours[ground])
        for name in texts
        if contrast(colours[name], colours[ground]) < 4.5
    } == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_mark_of_a_plot_stands_out_from_its_band(scheme: str) -> None:
    colours = schemes()[scheme]
    assert min(contrast(colours[name], colours["band"]) for name in ("muted", *TONES)) >= 3
