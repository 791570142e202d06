"""``python -m bench study`` as a user types it, with a budget of two seconds, and its refusals."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from bench.__main__ import main
from bench.study import command, fresh, multi_head
from bench.study.judgement import CLAIMS
from bench.study.subjects import Subjects

WORDS = ("--budget=2", "--device=cpu", "--kernel=sdpa")


def test_a_short_study_names_what_did_not_fit_and_is_not_measured_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *WORDS, f"--output={tmp_path}"]) == 0
    first = (tmp_path / "parts.json").read_bytes()
    shown = capsys.readouterr()
    assert f"Of the study's {len(CLAIMS)} claims" in shown.out
    assert "B1 16 heads on cpu" in shown.err  # the progress
    markdown = (tmp_path / "STUDY.md").read_text()
    assert "too long for --budget" in markdown
    assert "needs a GPU" in markdown
    assert (tmp_path / "study.html").exists()

    assert main(["study", *WORDS, f"--output={tmp_path}"]) == 0
    assert (tmp_path / "parts.json").read_bytes() == first  # nothing was measured
    parts = json.loads(first)["parts"]
    assert {"A1 on cpu", "A2 on cpu", "A3 on cpu", "B2 on cpu", "B3 on cpu", "fault: plain mean on cpu"} <= set(parts)


def test_a_fresh_process_times_its_first_calls(capsys: pytest.CaptureFixture[str]) -> None:
    fresh.main("sdpa", "b1h2t8d4-causal-fp32-fwd", "cpu", 4, 1)
    assert len([ns for ns in json.loads(capsys.readouterr().out) if ns > 0]) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budget=0",), "give --budget and --threads above zero"),
        (("--threads=0",), "give --budget and --threads above zero"),
        (("--kernel=nosuch",), "no kernel is named nosuch: choose among "),
    ],
)
def test_senseless_options_are_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["study", f"--output={tmp_path}", *words]) == 4
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a CUDA device here")
def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "--device=cuda"]) == 4
    assert "--device=cuda: torch sees only cpu here" in capsys.readouterr().err


def test_the_default_budget_leaves_a_run_under_ten_minutes() -> None:
    assert command.BUDGET_S <= 500


def test_on_a_gpu_the_same_parts_are_measured_but_what_is_about_a_cpu() -> None:
    def names(device: str) -> set[str]:
        return {p.name for table in command.TABLES for p in table.parts(device, Subjects())}

    assert names("cpu") - names("cuda") == {"A2"}
    assert names("cuda") < names("cpu")


def test_on_a_gpu_memory_is_the_peak_that_the_allocator_saw_beyond_what_was_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, partial(done.append, name))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 1000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 1700)
    assert multi_head.peak_bytes(lambda: done.append("call"), "cuda") == 700
    assert done == ["synchronize", "reset_peak_memory_stats", "call", "synchronize"]


@pytest.mark.cuda
def test_the_study_runs_on_a_gpu(tmp_path: Path) -> None:
    assert main(["study", "--budget=30", "--device=cuda", "--kernel=sdpa", f"--output={tmp_path}"]) == 0
    markdown = (tmp_path / "STUDY.md").read_text()
    assert "| 8 heads, SDPA | GPU | 1.5 ms |" in markdown
    assert "by hand, b8h8t1024d64, FP16" in markdown


def test_the_peak_of_compiled_code_is_that_of_its_buffers() -> None:
    call = torch.compile(lambda x: (x * 2).sin() + 1, fullgraph=True, backend="eager", dynamic=False)
    x = torch.zeros(1000)
    assert multi_head.peak_bytes(lambda: call(x), "cpu") >= x.nbytes
