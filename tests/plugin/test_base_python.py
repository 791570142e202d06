"""The same code under another interpreter: how such a run is asked for, and what it says."""

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch

import attention
from tests.conftest import lacking_all_but

from .conftest import Bench


@pytest.fixture
def _one_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run end after one pair of processes."""
    monkeypatch.setattr("bench.judging.statistics.least_agreeing", lambda _: 1)
    monkeypatch.setattr("bench.suite.pairs.MOST_PAIRS", 1)


@pytest.mark.usefixtures("_one_pair")
def test_base_and_head_run_in_processes_of_which_too_few_decide_nothing_and_a_failure_in_one_names_the_side(
    bench: Bench, pytester: pytest.Pytester
) -> None:
    base = pytester.mkdir("attention")
    for path in Path(attention.__file__ or "").parent.glob("*.py"):
        (base / path.name).write_text(path.read_text())
    with (base / "masked.py").open("a") as file:
        file.write(
            "\nfrom .registry import KERNELS, Kernel\n"
            "def broken(*_, **__): raise RuntimeError('not with this torch')\n"
            "KERNELS['masked'] = Kernel('masked', broken, masked.capabilities)\n"
        )
    both = "(sdpa or masked) and b1h4t64d32-full-fp32-cpu-fwd]"
    python = interpreter_with(pytester, "")
    words = (f"--gate-base={pytester.path}", f"--gate-base-python={python}", "--gate-json=report.json")
    result = bench(*words, case=both)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    report = json.loads((pytester.path / "report.json").read_text())
    failed, case = report["cases"]
    assert failed["verdict"] == "ERROR"
    assert failed["reasons"] == ["base raised RuntimeError: not with this torch"]
    assert case["verdict"] == "INCONCLUSIVE"
    assert case["pairs"] == 1
    assert case["error"]["out"]["bit_equal"] is True
    for side in case["fingerprint"].values():
        del side["calls"]["first_call_s"]  # a time
    assert case["fingerprint"]["base"] == case["fingerprint"]["head"]
    assert report["base"]["torch"] == torch.__version__
    assert report["base"]["origin"].endswith(f" under {python} (torch {torch.__version__})")
    assert report["policy"]["budget_s"] == 120
    assert report["notes"][0].startswith("base and head ran in 1 pair of processes, each of which is one pair in the")


def interpreter_with(pytester: pytest.Pytester, text: str) -> Path:
    """An interpreter that has torch, and as a package of its own a module ``theirs`` of this text, and nothing else."""
    own = pytester.mkdir("packages")
    (own / "theirs.py").write_text(text)
    (own / "sitecustomize.py").write_text(lacking_all_but("torch"))
    python = pytester.path / "python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(own))}:$PYTHONPATH exec {shlex.quote(sys.executable)} "$@"\n'
    )
    python.chmod(0o755)
    return python


THEIRS = """
import torch
def mine(q, k, v, *, mask, causal, scale):
    if mask is not None: raise NotImplementedError("a mask")
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
"""


@pytest.mark.usefixtures("_one_pair")
def test_a_kernel_from_elsewhere_is_each_interpreter_s_own(bench: Bench, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(theirs=THEIRS + "    # the head's\n")
    pytester.syspathinsert()
    python = interpreter_with(pytester, THEIRS.replace("return", "return 0.5 *"))
    result = bench(
        f"--gate-base-python={python}",
        "--kernel=theirs:mine",
        "--gate-json=report.json",
        "--gate-undecided=100%",  # whether one pair of processes decides does not matter here
        case="b1h4t64d32-full-fp32-",
    )
    assert result.ret == 0, result.outlines
    report = json.loads((pytester.path / "report.json").read_text())
    assert report["base"]["origin"].startswith(f"packages of {python} under {python} (torch ")
    assert {case["id"].rpartition("-")[2] for case in report["cases"]} == {"fwd", "fwdbwd"}
    for case in report["cases"]:
        assert case["error"]["out"]["bit_equal"] is False  # the base ran its own
    sys.modules.pop("theirs", None)
