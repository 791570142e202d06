"""Another interpreter: what it is asked, where it looks for packages, and a side in a process of its own."""

import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.plain.errors import CannotDo
from bench.sources.source import from_directory
from bench.sources.target import ATTENTION
from bench.suite.cases import Case, Shape
from bench.suite.code import alone
from bench.suite.forked import starts_of
from bench.suite.pairs import WORKER
from bench.suite.purity import execute
from bench.suite.side import Side
from bench.suite.workload import bind, build
from bench.twins.interpreter import environment_for, interpreter, spawn
from bench.twins.party import SideFailed

REPOSITORY = Path(__file__).parents[2]
CASE = Case("prints", False, Shape.parse("b1h2t8d4"), "causal", "fp32", "cpu", "fwdbwd")
KERNELS = """
import os
import torch

def prints(q, k, v, *, causal, **_):
    print("not an answer")
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

def dies(q, k, v, **_):
    os._exit(7)

KERNELS = {kernel.__name__: kernel for kernel in (prints, dies)}
"""


def test_this_interpreter_finds_in_its_own_process_what_it_finds_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    assert environment_for(sys.executable)["PYTHONPATH"] == f"{REPOSITORY}{os.pathsep}/theirs"
    monkeypatch.delenv("PYTHONPATH")
    assert environment_for(sys.executable)["PYTHONPATH"] == str(REPOSITORY)


def test_another_interpreter_looks_for_packages_in_places_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    monkeypatch.setenv("VIRTUAL_ENV", "/here")
    environment = environment_for("/other/python")
    assert environment["PYTHONPATH"] == str(REPOSITORY)
    assert "VIRTUAL_ENV" not in environment


def test_the_versions_behind_an_interpreter_are_told() -> None:
    found = interpreter(sys.executable, ["torch"])
    assert found == {"python": ".".join(map(str, sys.version_info[:3])), "torch": torch.__version__}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (None, "cannot be run (No such file or directory): give the path of an interpreter"),
        ("exit 0", "is no Python interpreter: give the path of one that has torch"),
        ("echo noise; echo 'attention-gate:[[3, 9, 1], \"2.1\"]'; echo bye", "is Python 3.9.1: give one from 3.11"),
        (
            "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1",
            "cannot import torch (ModuleNotFoundError: No module named 'torch'): give a Python interpreter that has ",
        ),
        ("exit 3", "cannot import torch (it said nothing)"),
    ],
)
def test_what_is_no_interpreter_with_torch_is_one_sentence(tmp_path: Path, script: str | None, expected: str) -> None:
    path = tmp_path / "python"
    if script is not None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    with pytest.raises(CannotDo) as refused:
        interpreter(str(path), ["torch"])
    assert str(refused.value).startswith(f"--gate-base-python={path} ")
    assert expected in str(refused.value)


def test_a_side_in_its_own_process_does_the_same_work_on_the_same_tensors_and_may_print_and_end(
    package: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    python = os.path.relpath(sys.executable)  # as a user may name it
    source = from_directory(package(__init__=KERNELS))
    start = starts_of({"base": alone(source, tmp_path)}, ATTENTION, ("cpu",), 1, tmp_path)["base"]
    here: dict[str, Any] = {}
    exec(KERNELS, here)  # noqa: S102  # what the other process imports
    workload = build(CASE, {})
    own, own_print = execute(bind(workload, Side("head", here["KERNELS"], {})), workload)
    capfd.readouterr()  # what it printed here
    torch.save(workload, tmp_path / "workload.pt")
    with closing(spawn(python, "base", tmp_path, WORKER)) as side:
        assert side.ask("load", start)["torch"] == torch.__version__
        shown = side.ask("check", tmp_path / "workload.pt", tmp_path / "base.pt")
        results = torch.load(shown.results, weights_only=True)
        assert list(results) == ["out", "dq", "dk", "dv"]
        assert all(torch.equal(results[name], own[name]) for name in own)
        assert shown.fingerprint == own_print
        side.ask("settle", ())
        assert side.ask("burst", 3) > 0
        side.ask("release", ())  # it did not write to its inputs
        torch.save(build(replace(CASE, subject="dies"), {}), tmp_path / "dies.pt")
        with pytest.raises(SideFailed, match=r"^base ended in its own process with exit code 7$"):
            side.ask("check", tmp_path / "dies.pt", tmp_path / "base.pt")
        assert not side.is_alive
    assert capfd.readouterr().out == ""
