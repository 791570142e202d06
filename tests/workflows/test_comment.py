"""The comment on a pull request, against a server that answers as GitHub's does: what it writes and what it refuses.

Over 300 lines: what a stranger's artifact may hold, and what is done with it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
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


def test_a_number_that_is_not_one_is_refused_before_anything_is_asked(
    hub: Any, artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = artifact / comment.NUMBER

    def refusal() -> str:
        assert run(artifact) == 4
        assert hub.requests == []
        return capsys.readouterr().err

    for number in NUMBERS:
        path.write_text(number, encoding="utf-8")
        assert "look at the gate's run" in refusal(), ascii(number)
    path.unlink()
    assert "pull-request holds None, not the number of a pull request" in refusal()
    (artifact / "elsewhere").write_text("7")
    path.symlink_to(artifact / "elsewhere")
    assert "pull-request in the artifact is not an ordinary file" in refusal()


def test_a_pull_request_at_another_commit_and_the_number_of_another_one_are_refused(
    hub: Any, artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.head = "b" * 40
    assert run(artifact) == 4
    said = f"pull request 7 is at {'b' * 40} and the gate's run was for {HEAD!r}: nothing is written"
    assert said in capsys.readouterr().err
    (artifact / comment.NUMBER).write_text("8")
    assert run(artifact) == 4
    assert "GET pulls/8 was answered with 404" in capsys.readouterr().err
    assert hub.written == []


def moved(path: Path) -> Path:
    return path.rename(path.parents[1] / "elsewhere")


def replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return what makes something else in the place of a file."""

    def tamper(path: Path) -> None:
        path.unlink()
        make(path)

    return tamper


NO_FILE = "is not an ordinary file"
REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (lambda path: path.symlink_to(moved(path)), NO_FILE),
    "a link to nothing": (replaced(lambda path: path.symlink_to("nothing")), NO_FILE),
    "a linked folder": (lambda path: path.parent.symlink_to(moved(path.parent)), NO_FILE),
    "a folder": (replaced(Path.mkdir), NO_FILE),
    "a pipe": (replaced(os.mkfifo), NO_FILE),
    "too large": (lambda path: os.truncate(path, comment.REPORT_BYTES + 1), f"is over {comment.REPORT_BYTES} bytes"),
    "not UTF-8": (lambda path: path.write_bytes(b"\xff"), "is not UTF-8"),
    "of another schema": (
        lambda path: path.write_text('{"schema": 2, "x": "@someone <b>"}'),
        ": this is no report that --gate-json wrote",
    ),
    "a threshold that no arithmetic holds": (
        lambda path: path.write_text(report().replace('"threshold": 0.05', '"threshold": 1e-200')),
        "should have a threshold from 1e-09 to 10",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_report_that_is_not_one_is_refused_and_the_comment_says_so_instead_of_going_stale(
    hub: Any, artifact: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add(f"{comment.MARKER} PASS")
    tamper, said = REFUSALS[name]
    tamper(artifact / comment.REPORT)
    assert run(artifact) == 4
    shown = capsys.readouterr().err
    assert "reports/gate.json in the artifact" in shown
    assert said in shown
    (own,) = hub.comments
    assert "## Regression gate: no verdict" in own["body"]
    assert "its report is refused" in own["body"]


def test_no_key_of_a_report_becomes_markup_or_a_workflow_command_or_makes_the_comment_too_long(
    hub: Any, artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "x\n::error file=README.md,line=1::injected\n::stop-commands::zz\ny" + "z" * 200_000
    for hostile, said in (
        ({"<img>@all": 1}, "has the unknown"),
        ({"environment": {key: []}}, r"document.environment['x\n::error file"),
    ):
        (artifact / comment.REPORT).write_text(json.dumps({**json.loads(report()), **hostile}))
        assert run(artifact) == 4
        shown, body = capsys.readouterr(), hub.comments[0]["body"]
        assert said in shown.err
        assert (shown.out, shown.err.count("\n")) == ("", 1)
        assert "its report is refused" in body
        assert "<img" not in body
        assert "@" not in body
        assert len(body) < 2000


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


def test_a_gate_that_ended_before_its_verdict_is_said_to_have_none(hub: Any, artifact: Path) -> None:
    (artifact / comment.REPORT).unlink()
    assert run(artifact) == 0
    assert "no verdict\n\nThe run ended with failure before it had a verdict." in hub.comments[0]["body"]


@pytest.mark.parametrize(("verdict", "conclusion"), [(Verdict.UNCHANGED, "failure"), (Verdict.REGRESSED, "success")])
def test_a_report_that_github_contradicts_carries_a_warning(
    hub: Any, artifact: Path, verdict: Verdict, conclusion: str
) -> None:
    (artifact / comment.REPORT).write_text(report(verdict))
    assert run(artifact, conclusion=conclusion) == 0
    assert f"the run ended with {conclusion}, but its report says otherwise" in hub.comments[0]["body"]


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
