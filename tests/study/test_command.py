"""``python -m bench study`` as a user types it, with a limit of one second, and its refusals."""

import json
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest

from bench.__main__ import main
from bench.study import command
from bench.study.judgement import CLAIMS
from bench.study.measuring import Setting
from bench.study.parts import Part, parts
from bench.study.results import Series
from bench.study.subjects import case_of, kernels

WORDS = ("--time-limit=1", "--device=cpu", "--kernel=sdpa")


def test_a_short_study_names_what_did_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", *WORDS, f"--output={tmp_path}"]) == 0
    shown = capsys.readouterr()
    assert f"Of the study's {len(CLAIMS)} claims" in shown.out
    assert "B1, by hand, fused, SDPA, fused" in shown.err  # the progress
    markdown = (tmp_path / "STUDY.md").read_text()
    assert "too long for --time-limit" in markdown
    assert "needs a GPU" in markdown
    assert (tmp_path / "study.html").exists()
    values = json.loads((tmp_path / "study.json").read_text())
    assert {"A1", "A2", "A3", "A4", "B", "B1", "B2", "B3", "growth"} <= {s["part"] for s in values["series"]}
    assert values["environment"]["measuring"].endswith("time limit 1 s")


def test_what_cannot_be_done_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.timing.environment.present_devices", lambda: ("cpu",))
    monkeypatch.setattr(command, "measure", Mock(side_effect=AssertionError("something is measured")))
    Path("file").touch()
    for word, message in {
        "--kernel=nosuch": "no kernel is named nosuch: choose among ",
        "--device=cuda": "--device=cuda: torch sees only cpu here",
        "--output=file": "cannot be written",
    }.items():
        assert main(["study", word]) == 4
        assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_the_default_budget_leaves_a_run_under_ten_minutes() -> None:
    assert command.BUDGET_S <= 500


def test_on_a_gpu_the_same_is_measured_but_what_is_about_a_cpu() -> None:
    def names(device: str) -> set[str]:
        return {str(part) for part in parts(device, kernels())}

    assert {name.partition(",")[0] for name in names("cpu") - names("cuda")} == {"A2"}
    assert names("cuda") < names("cpu")


def test_only_kernels_that_were_asked_for_are_measured() -> None:
    subjects = {case.subject for part in parts("cpu", kernels(["sdpa"])) for case in part.cases}
    assert "sdpa" in subjects
    assert not subjects & {"blockwise", "manual", "compiled"}


def test_later_parts_get_the_time_that_is_left_and_a_tenth_of_their_share_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, given = [0.0], []
    monkeypatch.setattr("bench.study.command.time.monotonic", lambda: now[0])

    def take(_: object, setting: Setting, takes: float) -> list[Series]:
        given.append(setting.budget_s)
        now[0] += takes
        return []

    cases = [case_of("sdpa", "b1h2t8d4-causal-fp32-fwd", "cpu")]
    command.measure([Part("x", 1, cases, partial(take, takes=t)) for t in (10.0, 100.0, 1.0, 1.0)], 100.0)
    assert given == pytest.approx([25.0, 30.0, 2.5, 2.5])


@pytest.mark.cuda
def test_the_study_runs_on_a_gpu(tmp_path: Path) -> None:
    assert main(["study", "--time-limit=30", "--device=cuda", "--kernel=sdpa", f"--output={tmp_path}"]) == 0
    markdown = (tmp_path / "STUDY.md").read_text()
    assert "| SDPA, fused, 8 heads | GPU | 1.5 ms |" in markdown
