"""The comment on a pull request, against a server that answers as GitHub's does: what it writes and what it refuses.

Over 300 lines: what a stranger's artifact may hold, and what is done with it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.commands import comment
from bench.commands.github import BOT, PAGE, GitHub, Refused
from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.errors import CannotDo
from bench.plain.evidence import Evidence
from bench.report.as_json import as_json

HEAD = "a" * 40
LINK = "https://github.example/o/r/actions/runs/5"
SIDES = {"origin": "revision main", "source_sha256": "0"}, {"origin": "working tree", "source_sha256": "1"}
REPOSITORY = Path(__file__).parents[2]


def report(verdict: Verdict = Verdict.REGRESSED, reason: str = "20.0% slower") -> str:
    row = CaseResult(Evidence("sdpa-b1h4t64d32-full-fp32-cpu-fwd"), verdict, (reason,), ratio=1.2)
    return as_json(Run(*SIDES, {}, Policy(), (row,)))


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    directory = tmp_path / "gate"
    (directory / "reports").mkdir(parents=True)
    (directory / comment.NUMBER).write_text("7\n")
    (directory / comment.REPORT).write_text(report())
    return directory


def run(artifact: Path, head: str = HEAD, conclusion: str = "failure", link: str = LINK) -> int:
    return comment.main([str(artifact), f"--head={head}", f"--conclusion={conclusion}", f"--link={link}"])


def test_the_first_run_creates_the_comment_and_the_next_updates_it(hub: Any, artifact: Path) -> None:
    hub.add("hello", login="someone", kind="User")
    assert run(artifact) == 0
    (artifact / comment.REPORT).write_text(report(Verdict.UNCHANGED))
    assert run(artifact, conclusion="success") == 0
    assert hub.written == ["POST", "PATCH"]
    _, own = hub.comments
    assert own["body"].startswith(f"{comment.MARKER}\n\n## Regression gate: PASS")
    assert f"[Log and reports]({LINK})" in own["body"]
    assert HEAD in own["body"]
    assert hub.tokens == {"Bearer secret"}


def test_a_comment_with_the_marker_by_anyone_else_is_left_alone(hub: Any, artifact: Path) -> None:
    hub.add(f"{comment.MARKER} mine", login="someone", kind="User")
    hub.add(f"{comment.MARKER} mine", login=BOT, kind="User")
    hub.add(f"{comment.MARKER} mine", login="other[bot]")
    hub.add(f"quoting {comment.MARKER}")
    assert run(artifact) == 0
    assert hub.written == ["POST"]


def test_the_comment_is_found_on_a_later_page(hub: Any, artifact: Path) -> None:
    for _ in range(PAGE + 3):
        hub.add("talk", login="someone", kind="User")
    hub.add(f"{comment.MARKER} old")
    assert run(artifact) == 0
    assert hub.written == ["PATCH"]
    assert "FAIL" in hub.comments[-1]["body"]


NUMBERS = ["", "0", "7x", "-7", "\u0667", "7\n8", "7; echo", "https://x", "07", "12345678901", "7" * 99]


@pytest.mark.parametrize("number", NUMBERS, ids=ascii)
def test_a_number_that_is_not_one_is_refused_before_anything_is_asked(
    hub: Any, artifact: Path, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (artifact / comment.NUMBER).write_text(number, encoding="utf-8")
    assert run(artifact) == 4
    assert hub.requests == []
    assert "look at the gate's run" in capsys.readouterr().err


def test_a_missing_number_is_refused(hub: Any, artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (artifact / comment.NUMBER).unlink()
    assert run(artifact) == 4
    assert "pull-request holds None, not the number of a pull request" in capsys.readouterr().err


def test_a_pull_request_at_another_commit_is_refused(
    hub: Any, artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.head = "b" * 40
    assert run(artifact) == 4
    assert hub.written == []
    said = capsys.readouterr().err
    assert f"pull request 7 is at {'b' * 40} and the gate's run was for {HEAD!r}: nothing is written" in said


def test_another_pull_request_s_number_is_refused(hub: Any, artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (artifact / comment.NUMBER).write_text("8")
    assert run(artifact) == 4
    assert hub.written == []
    assert "GET pulls/8 was answered with 404" in capsys.readouterr().err


def tamper(name: str, artifact: Path) -> None:
    path = artifact / comment.REPORT
    if name == "a link":
        path.rename(artifact / "elsewhere")
        path.symlink_to(artifact / "elsewhere")
    elif name == "a link to nothing":
        path.unlink()
        path.symlink_to(artifact / "nothing")
    elif name == "a linked folder":
        path.parent.rename(artifact / "elsewhere")
        path.parent.symlink_to(artifact / "elsewhere")
    elif name == "a folder":
        path.unlink()
        path.mkdir()
    elif name == "a pipe":
        path.unlink()
        os.mkfifo(path)
    elif name == "too large":
        with path.open("wb") as file:
            file.truncate(comment.REPORT_BYTES + 1)
    elif name == "not UTF-8":
        path.write_bytes(b"\xff")
    else:
        path.write_text(name)


REFUSALS = {
    "a link": "reports/gate.json in the artifact is not an ordinary file",
    "a link to nothing": "reports/gate.json in the artifact is not an ordinary file",
    "a linked folder": "reports/gate.json in the artifact is not an ordinary file",
    "a folder": "reports/gate.json in the artifact is not an ordinary file",
    "a pipe": "reports/gate.json in the artifact is not an ordinary file",
    "too large": f"reports/gate.json in the artifact is over {comment.REPORT_BYTES} bytes",
    "not UTF-8": "reports/gate.json in the artifact is not UTF-8",
    '{"schema": 2, "x": "@someone <b>"}': "these are no verdicts as --gate-json writes them",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_report_that_is_not_one_is_refused_and_the_comment_says_so_instead_of_going_stale(
    hub: Any, artifact: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add(f"{comment.MARKER} PASS")
    tamper(name, artifact)
    assert run(artifact) == 4
    assert REFUSALS[name] in capsys.readouterr().err
    (own,) = hub.comments
    assert "## Regression gate: no verdict" in own["body"]
    assert "its report is refused" in own["body"]


def test_hostile_text_in_a_refusal_is_escaped(hub: Any, artifact: Path) -> None:
    (artifact / comment.REPORT).write_text(json.dumps({**json.loads(report()), "<img>@all": 1}))
    assert run(artifact) == 4
    assert "has the unknown" in hub.comments[0]["body"]
    assert "<img" not in hub.comments[0]["body"]
    assert "@" not in hub.comments[0]["body"]


def test_no_key_of_a_report_becomes_a_workflow_command_in_the_log_or_makes_the_comment_too_long(
    hub: Any, artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "x\n::error file=README.md,line=1::injected\n::stop-commands::zz\ny" + "z" * 200_000
    (artifact / comment.REPORT).write_text(json.dumps({**json.loads(report()), "environment": {key: []}}))
    assert run(artifact) == 4
    said = capsys.readouterr()
    assert r"document.environment['x\n::error file" in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert len(hub.comments[0]["body"]) < 2000


def test_a_refusal_is_one_line_of_the_log_and_has_an_end_in_the_comment(
    hub: Any, artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: str) -> Run:
        raise CannotDo("x\r\n::error::injected" + "@" * 100_000)

    monkeypatch.setattr(comment, "from_json", refuse)
    assert run(artifact) == 4
    assert "\n::" not in capsys.readouterr().err
    assert len(hub.comments[0]["body"]) < 65_536
    assert "…" in hub.comments[0]["body"]


@pytest.mark.parametrize("error", [OverflowError, ValueError])
def test_a_report_that_cannot_be_written_out_is_refused_and_said_to_be(
    hub: Any,
    artifact: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[Exception],
) -> None:
    def fail(*_: object) -> str:
        raise error("::error::injected")

    hub.add(f"{comment.MARKER} PASS")
    monkeypatch.setattr(comment, "as_markdown", fail)
    assert run(artifact) == 4
    said = f"reports/gate.json in the artifact has figures that cannot be written out ({error.__name__})"
    assert said in capsys.readouterr().err
    assert "and its report is refused" in hub.comments[0]["body"]


def test_a_threshold_that_no_arithmetic_holds_is_refused(hub: Any, artifact: Path) -> None:
    hub.add(f"{comment.MARKER} PASS")
    document = json.loads(
        as_json(Run(*SIDES, {}, Policy(), (CaseResult(Evidence("a"), Verdict.INCONCLUSIVE, mde=0.1),)))
    )
    document["policy"]["threshold"] = 1e-200
    (artifact / comment.REPORT).write_text(json.dumps(document))
    assert run(artifact) == 4
    assert "should have a threshold from 1e-09 to 10" in hub.comments[0]["body"]


def test_a_link_as_the_number_is_refused(hub: Any, artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (artifact / "elsewhere").write_text("7")
    (artifact / comment.NUMBER).unlink()
    (artifact / comment.NUMBER).symlink_to(artifact / "elsewhere")
    assert run(artifact) == 4
    assert hub.requests == []
    assert "pull-request in the artifact is not an ordinary file" in capsys.readouterr().err


def test_a_gate_that_ended_before_its_verdict_is_said_to_have_none(hub: Any, artifact: Path) -> None:
    (artifact / comment.REPORT).unlink()
    assert run(artifact) == 0
    assert "no verdict\n\nThe run ended with failure before it had one." in hub.comments[0]["body"]


@pytest.mark.parametrize(("verdict", "conclusion"), [(Verdict.UNCHANGED, "failure"), (Verdict.REGRESSED, "success")])
def test_a_report_that_github_contradicts_carries_a_warning(
    hub: Any, artifact: Path, verdict: Verdict, conclusion: str
) -> None:
    (artifact / comment.REPORT).write_text(report(verdict))
    assert run(artifact, conclusion=conclusion) == 0
    assert f"the run ended with {conclusion} and its report says otherwise" in hub.comments[0]["body"]


def test_hostile_verdicts_are_escaped_and_the_comment_has_a_size_that_github_takes(hub: Any, artifact: Path) -> None:
    rows = tuple(
        CaseResult(Evidence(f"@all-{i}<script>-a-b-c-d-e"), Verdict.ERROR, ("@all [x](javascript:1) " * 40,))
        for i in range(5000)
    )
    (artifact / comment.REPORT).write_text(as_json(Run(*SIDES, {}, Policy(), rows)))
    assert run(artifact) == 0
    body = hub.comments[0]["body"]
    assert len(body) < 65_536
    assert "@" not in body
    assert "<script" not in body
    assert "[x" not in body
    assert "Left out for their size" in body


@pytest.mark.parametrize("status", [403, 500])
def test_an_error_of_the_api_is_quoted(
    hub: Any, artifact: Path, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.status = status
    assert run(artifact) == 4
    said = capsys.readouterr().err
    assert f"answered with {status}" in said
    assert "Resource not accessible by integration" in said
    assert "secret" not in said


def test_a_server_that_is_not_there_is_an_error(artifact: Path) -> None:
    with pytest.raises(Refused, match="got no answer that can be read"):
        GitHub("http://127.0.0.1:9", "o/r", "secret").head_sha(7)


def test_a_token_that_is_not_given_is_an_error(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    assert run(artifact) == 4
    assert "'GITHUB_TOKEN' is not set: set it as a workflow does" in capsys.readouterr().err


@pytest.mark.parametrize(("head", "link"), [("main", LINK), (HEAD, "https://x/) [y](z"), (HEAD, "javascript:1")])
def test_a_commit_or_link_in_another_form_is_refused(head: str, link: str) -> None:
    with pytest.raises(Refused, match="should be a commit and the address of a run"):
        comment.compose(None, head, "failure", link)


def test_it_runs_where_nothing_is_installed(hub: Any, artifact: Path) -> None:
    command = [
        sys.executable,
        "-S",
        "-m",
        "bench.commands.comment",
        str(artifact),
        f"--head={HEAD}",
        "--conclusion=failure",
    ]
    done = subprocess.run([*command, f"--link={LINK}"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert hub.written == ["POST"]


def cancelled(head: str = HEAD) -> int:
    return comment.main(["nowhere", f"--head={head}", "--conclusion=cancelled", f"--link={LINK}"])


def test_a_cancelled_run_of_the_newest_commit_is_told_once_above_the_older_verdict(hub: Any, artifact: Path) -> None:
    assert run(artifact) == 0
    hub.head = "b" * 40
    for _ in range(2):  # cancelled, run again, cancelled again
        assert cancelled("b" * 40) == 0
        (own,) = hub.comments
        assert own["body"].startswith(f"{comment.MARKER}\n\n> **The newest commit, {'b' * 40}, has no verdict yet**")
        assert own["body"].count("has no verdict") == 1
        assert "## Regression gate: FAIL" in own["body"]
        assert f"code at {HEAD}" in own["body"]
    assert run(artifact, head="b" * 40) == 0  # and its own verdict replaces it all
    assert "has no verdict" not in hub.comments[0]["body"]


@pytest.mark.parametrize("why", ["a newer commit", "closed", "nothing was said", "another commit"])
def test_a_cancelled_run_that_leaves_nothing_stale_changes_nothing(hub: Any, artifact: Path, why: str) -> None:
    if why != "nothing was said":
        assert run(artifact) == 0
    if why == "a newer commit":
        hub.head = "b" * 40
    elif why == "closed":
        hub.state = "closed"
    before = [each["body"] for each in hub.comments]
    assert cancelled("c" * 40 if why == "another commit" else HEAD) == 0
    assert [each["body"] for each in hub.comments] == before


def test_a_commit_that_is_none_is_not_asked_about(hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cancelled("../../x") == 4
    assert hub.requests == []
    assert "should be a commit" in capsys.readouterr().err
