"""``python -m bench bisect``: the commit that it finds, what it skips, and what it says where there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.commands import bisect
from bench.commands.bisect import Commits, search
from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.arguments import Parser
from bench.plain.errors import CannotDo
from bench.plain.evidence import Evidence
from tests.conftest import git

Commit = Callable[[str], str]
KERNEL = """
import torch
def mine(q, k, v, *, mask, causal, scale):
    if mask is not None: raise NotImplementedError("a mask")
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    return {result}
"""
CASE = "mine-b1h4t64d32-full-fp32-cpu-fwd"


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commit:
    """Commit a text as the module ``bisected`` of a repository that is imported from; returns the commit."""
    git(tmp_path, "init", "-q", "-b", "main")
    monkeypatch.syspath_prepend(tmp_path)

    def add(text: str) -> str:
        (tmp_path / "bisected.py").write_text(text)
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", text.splitlines()[-1].strip() or "empty")
        return git(tmp_path, "rev-parse", "HEAD")

    return add


def verdicts(tmp_path: Path, by_commit: dict[str, str]) -> tuple[str, list[str]]:
    """Search among commits with these verdicts, the first of which is good; returns what was found and was asked."""
    good, *others = by_commit
    asked: list[str] = []

    def judge(commit: str) -> Run:
        asked.append(commit)
        if by_commit[commit] == "broken":
            raise CannotDo("it does not import")
        return Run({}, {}, {}, Policy(), (CaseResult(Evidence(CASE), Verdict(by_commit[commit])),))

    found, _ = search(Commits(tmp_path, ["bisected"], good), judge, others[-1], lambda _: None)
    return found, asked


def test_the_first_commit_that_is_bad_is_found_in_as_many_steps_as_halving_takes(
    tmp_path: Path, commit: Commit
) -> None:
    commits = [commit(f"# {i}") for i in range(9)]
    for first in range(1, 9):
        told = {one: "REGRESSED" if i >= first else "UNCHANGED" for i, one in enumerate(commits)}
        found, asked = verdicts(tmp_path, told)
        assert found == commits[first]
        assert asked[0] == commits[-1]
        assert len(asked) <= 4  # bad itself, and three that halve eight


SKIPPED = ("INCONCLUSIVE", "broken", "ERROR", "DRIFTED")  # where others are REGRESSED


def test_a_commit_that_is_undecided_broken_or_bad_in_another_way_is_skipped(tmp_path: Path, commit: Commit) -> None:
    commits = [commit(f"# {i}") for i in range(7)]
    for how in SKIPPED:
        told = ["UNCHANGED", "UNCHANGED", how, how, "UNCHANGED", "REGRESSED", "REGRESSED"]
        assert verdicts(tmp_path, dict(zip(commits, told, strict=True)))[0] == commits[5], how


def test_commits_that_were_skipped_beside_the_first_bad_one_are_named(tmp_path: Path, commit: Commit) -> None:
    commits = [commit(f"# {i}") for i in range(4)]
    said = r"^the first bad commit is one of these; all but the last were skipped: \w+ # 2 .*# 3 "
    for how in SKIPPED:
        told = dict(zip(commits, ["UNCHANGED", "UNCHANGED", how, "REGRESSED"], strict=True))
        with pytest.raises(CannotDo, match=said):
            verdicts(tmp_path, told)


def test_only_commits_that_changed_what_is_compared_are_tried(tmp_path: Path, commit: Commit) -> None:
    good = commit("# 0")
    (tmp_path / "other.py").touch()
    other = commit("# 0")
    bad = commit("# 1")
    (tmp_path / "another.py").touch()
    last = commit("# 1")
    found, asked = verdicts(tmp_path, {good: "UNCHANGED", other: "ERROR", bad: "REGRESSED", last: "REGRESSED"})
    assert (found, asked) == (bad, [last])
    with pytest.raises(
        CannotDo, match="^no commit between good and bad changed the code that is compared: choose other revisions$"
    ):
        verdicts(tmp_path, {good: "UNCHANGED", other: "UNCHANGED"})


def test_a_bad_revision_that_is_fine_is_refused(tmp_path: Path, commit: Commit) -> None:
    with pytest.raises(CannotDo, match="^bad is UNCHANGED against good: choose other revisions, or"):
        verdicts(tmp_path, {commit("# 0"): "UNCHANGED", commit("# 1"): "UNCHANGED"})


def test_a_wrong_kernel_is_led_back_to_its_commit_with_nothing_checked_out(
    tmp_path: Path, commit: Commit, capsys: pytest.CaptureFixture[str]
) -> None:
    good = commit(KERNEL.format(result="out"))
    commit(KERNEL.format(result="out + 0"))
    wrong = commit(KERNEL.format(result="out * 1.01"))
    commit(KERNEL.format(result="out * 1.01 + 0"))
    (tmp_path / "bisected.py").write_text("broken, and not committed")
    report = tmp_path / "report.json"
    given = ("--kernel=bisected:mine", "--gate-budget=3", "--gate-threshold=100%")
    assert main(["bisect", CASE, f"--good={good}", *given, f"--json={report}"]) == 0
    said = capsys.readouterr().out
    assert f"{wrong} is the first that is DRIFTED" in said
    assert "return out * 1.01 (t, " in said
    assert '"DRIFTED"' in report.read_text()
    assert git(tmp_path, "rev-parse", "--abbrev-ref", "HEAD") == "main"


@pytest.mark.parametrize(("result", "code"), [("out", 0), ("out * 1.01", 1), ("no_such_name", 125)])
def test_a_step_tells_git_bisect_run_what_the_working_tree_is(
    commit: Commit, capsys: pytest.CaptureFixture[str], tmp_path: Path, result: str, code: int
) -> None:
    good = commit(KERNEL.format(result="out"))
    (tmp_path / "bisected.py").write_text(KERNEL.format(result=result))
    given = ("--kernel=bisected:mine", "--gate-budget=20", "--gate-threshold=100%", "--step")
    assert main(["bisect", CASE, f"--good={good}", *given]) == code


def test_a_step_accepts_what_the_file_of_the_gate_accepts(
    commit: Commit, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good = commit(KERNEL.format(result="out"))
    twice = KERNEL.replace("return", "torch.nn.functional.scaled_dot_product_attention(q, k, v)\n    return")
    (tmp_path / "bisected.py").write_text(twice.format(result="out"))
    kernels, waiver = (
        'kernels = ["bisected:mine"]',
        '[[waiver]]\ncase = "mine-*"\nratio = 10\nreason = "twice the work"',
    )
    (tmp_path / "gate.toml").write_text(f"{kernels}\n{waiver}\nexpires = 2999-01-01\n")
    assert main(["bisect", CASE, f"--good={good}", f"--gate-config={tmp_path / 'gate.toml'}", "--step"]) == 0
    assert "accepted up to half the threshold above 10 until 2999-01-01: twice the work" in capsys.readouterr().out


def test_a_small_threshold_has_the_budget_that_it_has_in_a_run_of_the_gate() -> None:
    def budget_s(*given: str) -> float:
        commands = Parser().add_subparsers()
        return bisect.budget_s(bisect.declare(commands).parse_args(["t.py::t", "--good=HEAD", *given]))

    assert budget_s("--gate-threshold=2.5") == 4 * budget_s() == 4 * Policy.budget_s
    assert budget_s("--gate-threshold=2.5", "--gate-budget=3") == 3


def test_a_step_blames_no_commit_that_good_has_nothing_to_compare_with() -> None:
    def code(verdict: Verdict) -> int:
        return bisect.step(lambda _: Run({}, {}, {}, Policy(), (CaseResult(Evidence(CASE), verdict),)), "")

    undecided = {Verdict.INCONCLUSIVE, Verdict.SKIPPED, Verdict.ERROR, Verdict.NEW}
    assert {verdict for verdict in Verdict if code(verdict) == bisect.UNDECIDED} == undecided
    assert {verdict for verdict in Verdict if code(verdict) == 0} == {*bisect.FINE}


@pytest.mark.parametrize(
    "given",
    [
        ["t.py::t", "--good=nowhere", "--step"],
        ["t.py::t", "--good=HEAD", "--gate-budget=0", "--step"],
        ["t.py::t", "--good=HEAD", "--no-such-option", "--ste"],
        ["t.py::t", "--step"],
    ],
)
def test_a_step_that_is_refused_stops_the_search_instead_of_blaming_a_commit(given: list[str]) -> None:
    assert main(["bisect", *given]) == 128


def test_a_step_that_fails_stops_the_search_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bisect, "conclude", lambda *_: 1 // 0)
    assert main(["bisect", "t.py::t", "--good=HEAD", "--step"]) == 128
    assert "ZeroDivisionError" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        main(["bisect", "t.py::t", "--good=HEAD"])


def test_a_revision_or_case_that_is_not_there_or_a_report_that_cannot_be_is_one_sentence(
    commit: Commit, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good = commit(KERNEL.format(result="out"))
    commit(KERNEL.format(result="out * 2"))
    kernel, page = "--kernel=bisected:mine", tmp_path / "bisected.py" / "x.html"
    assert main(["bisect", CASE, f"--good={good}", "--bad=nowhere", kernel, f"--html={page}"]) == 4
    assert "x.html cannot be written" in capsys.readouterr().err  # before anything is judged
    assert main(["bisect", CASE, f"--good={good}", "--bad=nowhere", kernel]) == 4
    assert "'nowhere' is neither a directory nor a revision that git knows in" in capsys.readouterr().err
    assert main(["bisect", "mine-b1h4t64d32-fulll-fp32-cpu-fwd", f"--good={good}", kernel]) == 4
    assert f"did you mean {CASE}" in capsys.readouterr().err
    assert bisect.UNDECIDED == 125
