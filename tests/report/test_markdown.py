"""The Markdown summary: what a reviewer sees first, what is said of each verdict, and its size."""

from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.verdict import FAILING, CaseResult, Verdict
from bench.plain.evidence import Evidence, Load
from bench.report.as_markdown import FEW, NAMED, QUIET, SUMMARY_BYTES, WARNED, as_markdown

HOSTILE = "<script>@someone | `x` [y](https://evil.invalid) #1 \u202e"


def case(verdict: Verdict, name: str = "sdpa", reason: str = "why") -> CaseResult:
    return CaseResult(
        Evidence(f"{name}-b1h4t64d32-full-fp32-cpu-fwd"), verdict, (reason,), ratio=1.2, base_ns=1e6, head_ns=1.2e6
    )


def run(*cases: CaseResult, load: Load | None = None, origin: str = "revision main") -> Run:
    return Run({"origin": origin}, {"origin": "working tree"}, {"cpu": "a cpu", "cores": 4}, Policy(), cases, load)


def above(text: str) -> str:
    """What is seen before the table of all cases is unfolded."""
    return text.partition("<details>")[0]


def test_a_pass_says_in_its_first_line_what_was_excluded() -> None:
    text = as_markdown(run(case(Verdict.UNCHANGED), case(Verdict.SKIPPED, "manual")))
    assert text.splitlines()[0] == "## Regression gate: PASS, no slowdown of 5% and no drift in 1 case"
    assert "What to do" not in text
    assert "|" not in above(text)


def test_a_failure_counts_what_failed_and_shows_only_the_cases_that_matter() -> None:
    failing = [case(Verdict.REGRESSED, reason="20.0% slower"), case(Verdict.DRIFTED, "masked")]
    text = as_markdown(run(*failing, *(case(Verdict.UNCHANGED, f"k{i}") for i in range(50))))
    assert text.splitlines()[0] == "## Regression gate: FAIL, 1 DRIFTED, 1 REGRESSED of 52 compared cases"
    assert text.splitlines()[2] == "<b>masked</b> (1 DRIFTED), <b>sdpa</b> (1 REGRESSED)"
    rows = [line for line in above(text).splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 2
    assert "20.0% slower" in rows[3]
    assert "1.2 ms" in rows[3]
    assert "<details><summary>All 52 cases: 1 DRIFTED, 1 REGRESSED, 50 UNCHANGED</summary>" in text


def test_times_and_ratio_agree_though_the_times_were_measured_otherwise() -> None:
    row = replace(case(Verdict.REGRESSED), ratio=1.199, base_ns=75_100.0, head_ns=81_300.0)
    assert "1.199 | 75.1 us | 90 us" in as_markdown(run(row))
    assert "81.3 us" not in as_markdown(run(row))


@pytest.mark.parametrize("verdict", [*FAILING, Verdict.INCONCLUSIVE, Verdict.WAIVED])
def test_every_verdict_that_asks_for_something_says_what(verdict: Verdict) -> None:
    assert f"- **{verdict}**: {verdict.what_to_do}" in above(as_markdown(run(case(verdict))))


def test_what_ran_and_what_disturbed_it_is_said() -> None:
    text = above(as_markdown(run(case(Verdict.UNCHANGED), load=Load(4, 2.0, 0.0, None))))
    assert "> **Warning:** other processes kept 2.0 of 4 cores busy" in text
    assert "cpu a cpu, cores 4" in text
    assert "base: revision main, head: working tree" in text


def test_many_cases_that_matter_show_the_worst_and_how_many_more_there_are() -> None:
    text = as_markdown(run(*(case(Verdict.REGRESSED, f"k{i}") for i in range(FEW + 7))))
    assert sum(line.startswith("| k") for line in above(text).splitlines()) == FEW
    assert "7 more of them are in the table of all cases." in above(text)


def test_the_first_lines_name_the_kernels_that_fail_but_not_without_end() -> None:
    rows = [case(Verdict.ERROR, f"k{i:02}") for i in range(NAMED + 3)]
    line = as_markdown(run(*rows, *(case(Verdict.DRIFTED, "k00") for _ in range(2)))).splitlines()[2]
    assert line.startswith("<b>k00</b> (1 ERROR, 2 DRIFTED), <b>k01</b> (1 ERROR), ")
    assert line.endswith(f"<b>k{NAMED - 1:02}</b> (1 ERROR) and 3 more")


def test_the_table_above_the_fold_gives_the_first_reasons_and_the_other_one_all() -> None:
    row = replace(case(Verdict.REGRESSED), reasons=("slower", "backend", "third", "fourth"))
    glance, _, folded = as_markdown(run(row)).partition("<details>")
    assert "slower; backend |" in glance
    assert "slower; backend; third; fourth |" in folded


@pytest.mark.parametrize("limit", [SUMMARY_BYTES, 60_000])
@pytest.mark.parametrize("reason", ["slower", "@" * 100_000, HOSTILE * 50], ids=["short", "long", "hostile"])
def test_the_size_is_within_the_limit_and_says_how_many_rows_are_left_out(limit: int, reason: str) -> None:
    cases = [case(list(Verdict)[i % 11], f"k{i}", reason) for i in range(10_000)]
    text = as_markdown(replace(run(*cases, origin=reason), notes=(reason,) * 1000), limit)
    assert limit / 2 < len(text.encode()) <= limit
    folded = text.partition("<details>")[2]
    shown = sum(line.startswith("| k") for line in folded.splitlines())
    assert f"Left out for their size: {10_000 - shown} rows. The JSON and HTML reports have all." in folded
    assert folded.rstrip().endswith("</details>")


def test_the_warnings_of_many_shards_are_shown_up_to_a_number_with_what_the_whole_run_needs_first() -> None:
    undecided = run(case(Verdict.INCONCLUSIVE))
    text = above(as_markdown(replace(undecided, notes=tuple(f"shard {i}/600: busy" for i in range(600)))))
    assert text.count("> **Warning:** ") == WARNED
    assert "> **Warning:** 1 of 1 timed cases is undecided" in text
    assert f"{600 + 1 - WARNED} more warnings are in the JSON and HTML reports." in text


def test_nothing_is_left_out_where_there_is_room() -> None:
    text = as_markdown(run(*(case(Verdict.UNCHANGED, f"k{i}") for i in range(1000))))
    assert text.count("\n| k") == 1000
    assert "left out" not in text


def test_hostile_text_adds_no_markup_wherever_it_stands() -> None:
    plain = run(*(case(verdict) for verdict in Verdict))
    hostile = run(*(case(verdict, HOSTILE, HOSTILE) for verdict in Verdict), origin=HOSTILE)
    assert markup(as_markdown(hostile)) == markup(as_markdown(plain))


def markup(text: str) -> list[str]:
    """Everything but text that GitHub would render, in its order."""
    tokens = [part for token in MarkdownIt("gfm-like").parse(text) for part in (token, *(token.children or ()))]
    return [token.type for token in tokens if token.type not in ("text", "text_special")]


def test_the_table_above_the_fold_is_of_verdicts_that_say_something() -> None:
    text = above(as_markdown(run(*(case(verdict, verdict.lower()) for verdict in Verdict))))
    shown = {verdict for verdict in Verdict if f"| {verdict.lower()}-" in text}
    assert shown == {verdict for verdict in Verdict if verdict.tone not in QUIET}
