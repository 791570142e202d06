"""What a change did to speed as a whole."""

from dataclasses import replace

import pytest

from bench.judging.verdict import CaseResult, Verdict
from bench.report.as_html import as_html
from bench.report.as_markdown import as_markdown
from bench.report.speed import speeds

from .conftest import some_run, timed


def _case(kernel: str, number: int, verdict: Verdict, ratio: float) -> CaseResult:
    return timed(f"{kernel}-b1h4t{number}d32-full-fp32-cpu-fwd", verdict, ratio)


CLAIM = [
    *(_case("mine", n, Verdict.FASTER, 0.8 + 0.01 * n) for n in range(1, 6)),
    _case("mine", 6, Verdict.REGRESSED, 1.25),
    _case("mine", 7, Verdict.INCONCLUSIVE, 0.98),
    *(_case("sdpa", n, Verdict.UNCHANGED, 1.0) for n in range(1, 9)),
]


def test_a_claim_is_counted_and_averaged_by_kernel_and_over_all() -> None:
    mine, all_ = speeds(CLAIM)
    assert mine.cells[:5] == ("mine", "5", "1", "0", "1")
    product = 0.81 * 0.82 * 0.83 * 0.84 * 0.85 * 1.25 * 0.98
    assert mine.mean == pytest.approx(product ** (1 / 7))
    assert all_.cells[:5] == ("all that is timed", "5", "1", "8", "1")
    assert all_.mean == pytest.approx(product ** (1 / 15))


def test_the_interval_holds_the_mean_and_narrows_with_more_cases() -> None:
    (mine, _), (more, _) = speeds(CLAIM), speeds([*CLAIM, *CLAIM[:7], *CLAIM[:7], *CLAIM[:7]])
    assert mine.interval is not None
    assert more.interval is not None
    assert mine.interval[0] < mine.mean < mine.interval[1]
    assert more.interval[1] - more.interval[0] < 0.7 * (mine.interval[1] - mine.interval[0])


def test_few_cases_have_no_interval() -> None:
    (few, _) = speeds(CLAIM[:4])
    assert few.interval is None
    assert few.cells[-1] == "too few cases"


def test_what_is_wrong_or_runs_something_else_says_nothing_about_speed() -> None:
    wrong = [
        replace(case, verdict=verdict) for case, verdict in zip(CLAIM, (Verdict.DRIFTED, Verdict.CHANGED), strict=False)
    ]
    (mine, _) = speeds([*wrong, *CLAIM[2:]])
    assert mine.cells[1] == "3"


def test_a_run_in_which_nothing_became_faster_claims_nothing() -> None:
    slower = [case for case in CLAIM if case.verdict is not Verdict.FASTER]
    assert speeds(slower) == ()
    assert "Speed as a whole" not in as_markdown(some_run(*slower))
    assert "Speed as a whole" not in as_html(some_run(*slower))


def test_summary_and_page_show_it() -> None:
    mine = speeds(CLAIM)[0].cells
    run = some_run(*CLAIM)
    assert "| mine | 5 | 1 | 0 | 1 |" in as_markdown(run)
    assert all(f">{cell}</td>" in as_html(run) for cell in mine[1:])


def test_the_summary_of_many_kernels_keeps_the_line_of_all() -> None:
    many = [_case(f"kernel{k}", 1, Verdict.FASTER, 0.9) for k in range(30)]
    text = as_markdown(some_run(*many))
    assert "| all that is timed | 30 |" in text
    assert "21 more kernels are in the HTML report" in text
