"""What a run came to stands at the top of each report, in the same words."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence, Shard
from bench.report.annotations import as_annotations
from bench.report.as_html import as_html
from bench.report.as_markdown import as_markdown
from bench.report.terminal import write_table

from .test_terminal import Lines

STRICT, PART = Policy(undecided=0.0), Shard.of(2, 3, "pr", "ab")


@pytest.mark.parametrize(
    ("verdicts", "policy", "shard", "headline"),
    [
        ([Verdict.UNCHANGED, Verdict.SKIPPED], None, None, "PASS, no slowdown of 5% and no drift in 1 case"),
        ([Verdict.UNCHANGED, *[Verdict.SKIPPED] * 2], None, None, "PASS IN PART, most was skipped (2 of 3 cases): no"),
        ([Verdict.INCONCLUSIVE], None, None, "PASS, but 1 of 1 timed cases undecided"),
        ([Verdict.INCONCLUSIVE], STRICT, None, "ERROR, 1 of 1 timed cases is undecided, and at most 0% may be"),
        ([Verdict.SKIPPED], None, None, "ERROR, nothing was compared: no selected case is in both base and head"),
        ([Verdict.SKIPPED], None, PART, "EMPTY, shard 2/3 has no case to compare"),
        (
            [Verdict.DRIFTED, Verdict.REGRESSED, Verdict.FASTER, Verdict.NEW],
            None,
            None,
            "FAIL, 1 DRIFTED, 1 REGRESSED ",
        ),
    ],
)
def test_every_report_begins_with_the_verdict_and_what_it_rests_on(
    make_run: Callable[..., Run], verdicts: list[Verdict], policy: Policy | None, shard: Shard | None, headline: str
) -> None:
    cases = (CaseResult(Evidence(f"case-{i}"), verdict, ratio=1.0) for i, verdict in enumerate(verdicts))
    run = replace(make_run(*cases, policy=policy), shard=shard)
    assert f"{run.word}, {run.sentence}".startswith(headline)
    assert as_markdown(run).startswith(f"## Regression gate: {run.word}, {run.sentence}\n")
    page = as_html(run)
    tone = {"PASS": "pass", "PASS IN PART": "pass", "EMPTY": "skip"}.get(run.word, "fail")
    assert f'<header class="headline {tone}">' in page
    assert f"<strong>{run.word}</strong> {run.sentence}</h1>" in page
    assert ("PASS" in page.partition("<table")[0]) is run.word.startswith("PASS")
    assert ("What fails" in page, "What to do" in page) == (run.word == "FAIL",) * 2
    if run.word == "ERROR":
        (note,) = as_annotations(run, {})
        assert note == f"::error title=gate::{run.closing_line.replace('%', '%25')}"
    terminal = Lines()
    write_table(run, terminal)
    assert any(line.startswith("base: baseline 0001_shipped.json, head: working tree; ") for line in terminal.lines)
