"""``python -m bench explain``: what it shows of a difference, and what it says where it cannot."""

import shutil
from pathlib import Path

import pytest

import attention
from bench.__main__ import main
from bench.commands import explain, explain_text
from bench.plain.execution import Compilation, Cost, Fingerprint, Observed, OpTime, Pass, Step
from bench.sources.target import ATTENTION

PACKAGE = Path(attention.__file__ or "").parent
CASE = "sdpa-b1h4t64d32-causal-fp32-cpu-fwdbwd"
SAME = f"--gate-base={PACKAGE.parent}"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", *arguments]) == 4
    return capsys.readouterr().err


def test_a_change_of_backend_is_shown_with_cause_ops_memory_and_times(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(PACKAGE, tmp_path / "attention", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "attention" / "sdpa.py"
    path.write_text(path.read_text().replace("q, k, v, attn_mask", "q, k.mT.contiguous().mT, v, attn_mask"))
    text = shown(capsys, CASE, f"--gate-base={tmp_path}")
    flat = " ".join(text.split())
    assert text.startswith(CASE)
    assert "CHANGED backend math -> flash because this is gone: the last strides of q, k, v are 1, 64, 1" in flat
    assert "backend math flash changed" in flat
    assert "> _safe_softmax" in text
    assert "< _sdp_flash_for_cpu_backward" in text
    assert "base |" in text
    assert "its peak grew at" in text
    assert text.index("time by op") < text.index("together")
    assert max(map(len, text.splitlines())) <= 120


def test_the_same_code_is_said_to_be_the_same_and_long_stretches_are_folded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = shown(capsys, "mhaloop-b1h4t64d32-full-fp32-cpu-fwd", SAME)
    assert "the same on both sides" in text
    assert "ops alike" in text
    assert len(text.splitlines()) < 60


def test_the_latest_stored_baseline_is_the_default_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(PACKAGE.parent)
    assert explain.base_of(None, ATTENTION, tmp_path).source.origin == "baseline 0001_shipped.json"


def test_a_repository_s_own_file_names_kernels_and_rows_and_each_side_imports_its_own_at_the_call(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for side, work in (("base", "q"), ("head", "q.cumsum(-1)")):
        package = tmp_path / side / "explained"
        package.mkdir(parents=True)
        (package / "inner.py").write_text(f"def work(q): {work}\n")
        (package / "__init__.py").write_text(
            "import importlib\n\n"
            "def attend(q, k, v, *, mask, causal, scale):\n"
            "    importlib.import_module('explained.inner').work(q)\n"
            "    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v\n"
        )
    own, base = tmp_path / "head" / "gate.toml", f"--gate-base={tmp_path / 'base'}"
    row = '[[row]]\nshapes = "b1h1t3d8"\nmasks = "full"\ndtypes = "fp32"\ndirections = "fwd"\n'
    own.write_text(f'kernels = ["explained:attend"]\n{row}')
    text = shown(capsys, "attend-b1h1t3d8-full-fp32-cpu-fwd", f"--gate-config={own}", base)
    assert "* 1 > cumsum" in " ".join(text.split())  # in the head alone
    own.write_text(row)
    assert "gate.toml names no kernels" in refused(capsys, CASE, f"--gate-config={own}", base)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sdpa-b1h4t64d32-causl-fp32-cpu-fwd", SAME], "did you mean sdpa-b1h4t64d32-causal-fp32-cpu-fwd"),
        (["nothing", SAME], "no case is named nothing: give an id such as block-"),
        (["manual-b1h4t64d32-causal-fp32-cpu-fwd", SAME], "cannot run: manual does not support causal attention"),
        ([CASE, "--gate-base=no-such"], "base 'no-such' is neither a directory nor a revision"),
        ([CASE, "--gate-base="], "base '' is neither a directory nor a revision"),
        ([CASE], "no baseline is stored in .benchmarks: store one with --benchmark-save=NAME, or give --gate-base"),
    ],
)
def test_what_cannot_be_explained_is_said_in_one_sentence(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, *arguments)
    assert expected in message
    assert message.count("\n") == 1


def test_a_case_of_a_device_that_is_not_here_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "needs cuda and torch sees only cpu here" in refused(capsys, CASE.replace("cpu", "cuda"))


def test_a_side_that_raises_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(PACKAGE, tmp_path / "attention", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "attention" / "sdpa.py"
    path.write_text(path.read_text().replace("    out = (", "    raise RuntimeError('on purpose')\n    out = ("))
    assert "error: base raised RuntimeError: on purpose" in refused(capsys, CASE, f"--gate-base={tmp_path}")


def test_compiled_code_and_a_missing_base_are_shown_for_what_they_are() -> None:
    seen = Fingerprint(Pass({"aten.bmm": 2}, 2**20, 2**20), compilation=Compilation(1, ("a",), 0, 3))
    head = Observed(seen, times=(OpTime("aten.bmm", 2, 10.0),))
    text = explain_text.explain("case", {"head": "working tree"}, {"head": head}, Cost(10**9, 2**20, "fp32", "cpu"))
    flat = " ".join(text.split())
    assert "not in the base: nothing to compare with" in text
    assert "compilation graphs 1 compilation breaks a " in flat
    assert "compilation kernels 3" in flat
    assert "compiled code does not tell" in text
    assert "work 1 GFLOP, 1.00 MiB to move" in flat


def test_the_bars_show_where_memory_was_highest() -> None:
    steps = tuple(Step("aten.op", size) for size in (0, 2**20, 4 * 2**20, 2**20))
    head = Observed(Fingerprint(Pass({}, 4 * 2**20, 0)), steps, backward_at=3)
    origins = {"base": "main", "head": "working tree"}
    text = explain_text.explain("case", origins, {"base": head, "head": head}, Cost(1, 1, "fp32", "cpu"))
    assert "| ▂█▂| 4.00 MiB" in text
    assert "2 op 1.00 MiB, 3 op 4.00 MiB" in text
