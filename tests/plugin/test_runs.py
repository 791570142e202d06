"""Whole runs that end in a verdict: comparing, saving, reporting."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import attention
from bench.__main__ import main
from bench.judging.policy import Policy
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence
from bench.suite.gate import Gate
from bench.timing.budget import SharedBudget
from bench.timing.machine import steady_allocator
from bench.twins.party import SideFailed

from .conftest import BASE, ONE, REPOSITORY, Bench

Edit = Callable[[str, str], Path]
OTHER = ONE.replace("sdpa", "masked")
CHECKED = "masked-b2h2t20k28d64-boolmaskbhqk-fp32-cpu-fwdbwd"  # and not timed
BOTH = f"{ONE}] or {CHECKED}]"


def test_the_same_code_passes_and_its_reports_say_what_was_asked_measured_and_executed(
    bench: Bench, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[SharedBudget] = []
    sharing: set[int] = set()
    test = Policy.test

    def noted_budget(cap_s: float, cases: int) -> SharedBudget:
        budgets.append(SharedBudget(cap_s, cases))
        return budgets[-1]

    def noted_test(policy: Policy, cases: int, **own: Any) -> Any:
        sharing.add(cases)
        return test(policy, cases, **own)

    monkeypatch.setattr("bench.session.SharedBudget", noted_budget)
    monkeypatch.setattr(Policy, "test", noted_test)
    reports = ("--gate-json=out/report.json", "--gate-markdown=report.md", "--gate-html=report.html")
    selected = f"{ONE}] or {OTHER}] or {CHECKED}]"
    result = bench(BASE, *reports, "-v", "--gate-threshold=7.5%", "--benchmark-save=paired", case=selected)
    assert result.ret == 0
    said = "gate: PASS, no slowdown of 7.5% in 2 cases and no drift in 3 cases (3 UNCHANGED)"
    assert result.outlines[-1] == said
    assert any("(identical source)" in line for line in result.outlines)
    assert any(f"[{ONE}] UNCHANGED" in line for line in result.outlines)  # progress, under -v
    assert any(line.startswith(ONE) and "UNCHANGED" in line for line in result.outlines)
    assert any(line.startswith(CHECKED) and line.endswith("checked, not timed") for line in result.outlines)
    for path in ("report.md", "report.html"):
        text = (pytester.path / path).read_text()
        assert text.index("gate: PASS") < text.index(ONE)

    report = json.loads((pytester.path / "out" / "report.json").read_text())
    assert report["schema"] == 1
    assert report["policy"]["threshold"] == 0.075
    assert report["exit_code"] == 0
    assert report["summary"] == {"UNCHANGED": 3}
    assert {"cpu", "cores", "threads", "torch", "python", "libc", "malloc"} <= set(report["environment"])
    cases = {case["id"]: case for case in report["cases"]}
    assert_is_measured_and_executed(cases[ONE])
    (ceiling,) = report["ceilings"]
    assert ceiling["dtype"] == "fp32"
    checked = cases[CHECKED]
    assert checked["ratio"] is None
    assert {error["bit_equal"] for error in checked["error"].values()} == {True}
    assert checked["fingerprint"]["base"] is not None

    # The level and the budget are shared among those that are timed, and each takes from it what it took.
    assert sharing == {2}
    (budget,) = budgets
    assert budget.cases_left == 0
    spent = sum(cases[id_]["seconds"] for id_ in (ONE, OTHER))
    assert budget.left_s == pytest.approx(SharedBudget(report["policy"]["budget_s"], 2).left_s - spent)

    (stored,) = pytester.path.rglob("0001_paired.json")
    stats = {b["extra_info"]["case"]: b["stats"] for b in json.loads(stored.read_text())["benchmarks"]}
    assert stats[ONE]["rounds"] == cases[ONE]["pairs"]
    assert stats[ONE]["median"] == pytest.approx(cases[ONE]["head_ns"] * 1e-9)


def assert_is_measured_and_executed(case: dict[str, Any]) -> None:
    assert len(case["ci"]) == 2
    assert case["error"]["out"]["bit_equal"] is True
    seen = case["fingerprint"]["head"]
    assert {"ops", "peak_bytes", "allocated_bytes", "forward", "backward", "sdpa", "compilation"} <= set(seen)
    assert seen["backend"] == "flash"
    assert seen["backward"] is None
    assert case["work"]["flops"] == 4 * 4 * 64 * 64 * 32
    assert case["achieved"]["gflops_per_s"] == pytest.approx(case["work"]["flops"] / case["head_ns"])
    assert case["achieved"]["share"] > 0


def test_threads_and_the_allocator_are_set_as_the_report_says(bench: Bench, pytester: pytest.Pytester) -> None:
    before = torch.get_num_threads()
    try:
        undecided = ("--gate-undecided=100%", "--gate-budget=0.2")  # whether both cores are free does not matter here
        assert bench(BASE, f"--threads={before + 1}", "--gate-json=report.json", *undecided).ret == 0
    finally:
        torch.set_num_threads(before)
    environment = json.loads((pytester.path / "report.json").read_text())["environment"]
    assert environment["threads"] == before + 1
    assert environment["malloc"] == steady_allocator()


def replacing(name: str, function: str, capabilities: str = "right.capabilities") -> str:
    """Code that replaces a kernel in its own file; the one that was there is ``right``."""
    return (
        "import torch\nfrom .registry import KERNELS, Capabilities, Kernel\n"
        f"right = {name}\nKERNELS[{name!r}] = Kernel({name!r}, {function}, {capabilities})"
    )


def replace_here(monkeypatch: pytest.MonkeyPatch, name: str, factor: float) -> None:
    """Make a kernel wrong by a factor in this process, where the head is if nothing is compared."""
    right = attention.KERNELS[name]
    wrong = replace(right, function=lambda *a, **k: right.function(*a, **k) * factor)
    monkeypatch.setitem(attention.KERNELS, name, wrong)


# In the same time, so that it is judged soon.
WRONG = replacing("sdpa", "lambda *a, scale=None, **k: right.function(*a, scale=1.01 * a[0].shape[-1] ** -0.5, **k)")


def test_a_wrong_kernel_fails_says_how_wrong_and_by_which_commands_it_is_reproduced_and_explained(
    bench: Bench, edit: Edit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("sdpa", WRONG)
    result = bench("--gate-base=HEAD", "--threads=1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.outlines[-1].startswith(f"gate: FAIL (1 DRIFTED); worst: {ONE} DRIFTED: out: error ")
    assert any("is over its budget" in line for line in result.outlines)
    again, explain = (
        next(shlex.split(line.partition(": ")[2]) for line in result.outlines if line.startswith(f"  to {what} it: "))
        for what in ("reproduce", "explain")
    )
    assert again[:4] == ["pytest", "bench/", "-k", f"[{ONE}]"]
    assert re.fullmatch(r"--gate-base=[0-9a-f]{12}", again[-1])  # what HEAD is now, not what it will be
    result = bench(*again[4:], case=again[3])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert f"worst: {ONE} " in result.outlines[-1]
    capsys.readouterr()
    monkeypatch.chdir(REPOSITORY)
    assert main(explain[3:]) == 0
    assert ONE in capsys.readouterr().out


def test_a_kernel_that_raises_one_that_is_wrong_where_it_is_not_timed_and_a_lost_capability_fail_in_one_run_unsaved(
    bench: Bench, edit: Edit, pytester: pytest.Pytester
) -> None:
    raises = "def raises(*_, **__):\n    raise RuntimeError('no kernel image')\n"
    edit("sdpa", raises + replacing("sdpa", "raises"))
    wrong = "lambda *a, mask, **k: right.function(*a, mask=None if mask is None else mask[:, :1], **k)"
    edit("masked", "from dataclasses import replace\n")
    edit("masked", replacing("masked", wrong, "replace(right.capabilities, causal=False)"))
    manual = ONE.replace("sdpa", "manual")
    result = bench(BASE, "--benchmark-autosave", case=f"{ONE}] or {manual}] or {CHECKED}]")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    rows = {line.split()[0]: line for line in result.outlines if "-cpu-" in line}
    assert "ERROR" in rows[ONE]
    assert "head raised RuntimeError: no kernel image" in rows[ONE]
    assert "UNCHANGED" in rows[manual]
    assert "DRIFTED" in rows[CHECKED]
    assert "MISSING" in rows[OTHER.replace("full", "causal")]
    assert result.outlines[-1].endswith("; no baseline was saved")
    assert not list(pytester.path.rglob("*.json"))


def test_a_new_kernel_is_checked_does_not_fail_and_is_timed_for_the_next_baseline(
    bench: Bench, edit: Edit, pytester: pytest.Pytester
) -> None:
    edit(
        "mine",
        "from .registry import Capabilities, register\nfrom .sdpa import sdpa\n"
        "mine = register('mine', Capabilities(causal=False))(sdpa.function)",
    )
    result = bench(BASE, "--benchmark-save=new", case="b1h4t64d32 and fp32 and fwd] and (mine or sdpa-)")
    assert result.ret == 0
    assert "(1 NEW, 2 UNCHANGED, 1 SKIPPED)" in result.outlines[-1]
    assert any("mine does not support causal attention" in line for line in result.outlines)
    (stored,) = pytester.path.rglob("0001_new.json")
    timed = {b["extra_info"]["case"] for b in json.loads(stored.read_text())["benchmarks"]}
    assert timed == {ONE, ONE.replace("sdpa", "mine"), ONE.replace("full", "causal")}


def test_a_saved_baseline_is_compared_with_by_the_plain_option_and_read_by_pytest_benchmark_s_own(
    bench: Bench, pytester: pytest.Pytester, edit: Edit
) -> None:
    saved = bench("--benchmark-save=first", case=BOTH)
    assert saved.ret == 0
    assert any("Name (time in" in line for line in saved.outlines)
    (stored,) = pytester.path.rglob("0001_first.json")
    document = json.loads(stored.read_text())
    (benchmark,) = document["benchmarks"]
    assert benchmark["extra_info"]["case"] == ONE
    assert set(benchmark["extra_info"]) == {"case", "errors", "fingerprint"}
    assert {"schema", "source_zip_base64", "source_sha256", "environment", "untimed"} == set(document["gate"])
    (untimed,) = document["gate"]["untimed"]
    assert untimed["case"] == CHECKED
    assert set(untimed) == {"case", "errors", "fingerprint"}
    shown = pytester.run(sys.executable, "-m", "pytest_benchmark", "compare", "0001", "--columns=min,median")
    assert shown.ret == 0
    assert any(f"test_attention[{ONE}]" in line for line in shown.outlines)
    same = bench("--benchmark-compare")
    assert same.ret == 0, same.outlines
    assert any("base: baseline 0001_first.json" in line for line in same.outlines)
    edit("masked", replacing("masked", "right.function", "Capabilities(masks=frozenset({'float'}), window=True)"))
    missed = bench("--benchmark-compare")
    assert any(line.startswith(CHECKED) and "MISSING" in line for line in missed.outlines)


def test_plain_benchmarks_check_the_output_before_timing_and_save_none_that_is_wrong(
    bench: Bench, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_here(monkeypatch, "sdpa", 1.01)  # without a comparison the head is in this process
    replace_here(monkeypatch, "masked", 1.01)
    result = bench("--benchmark-save=wrong", case=BOTH)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes()["failed"] == 2
    assert not any("Name (time in" in line for line in result.outlines)
    assert result.outlines[-1] == "benchmarks failed; no baseline was saved"
    assert not list(pytester.path.rglob("*.json"))


def test_outputs_alone_are_checked_in_parallel_and_only_a_wrong_one_fails(
    bench: Bench, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        outside="from attention import KERNELS\ndef mine(q, k, v, *, mask, causal, scale):\n"
        "    return 1.01 * right(q, k, v, mask=mask, causal=causal, scale=scale)\n"
        "def right(q, k, v, *, mask, causal, scale):\n"
        "    return KERNELS['sdpa'](q, k, v, mask=mask, causal=causal, scale=scale)\n"
    )
    pytester.syspathinsert()  # for this process; a worker starts with the path that the first of all had
    workers = ("-n1", "--max-worker-restart=0", "-o", f"pythonpath={REPOSITORY} {pytester.path}")
    case = f"{ONE.replace('sdpa', 'right')}] or {ONE.replace('sdpa', 'mine')}]"
    result = bench("--kernel=outside:mine", "--kernel=outside:right", "--benchmark-disable", *workers, case=case)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert any(line.startswith("1 worker [2 items]") for line in result.outlines)
    assert any("is over its budget" in line for line in result.outlines)
    (failed,) = [line for line in result.outlines if line.startswith("FAILED")]
    assert ONE.replace("sdpa", "mine") in failed
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], outcomes["passed"]) == (1, 1)


def test_a_new_case_that_raises_while_it_is_timed_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def time_head(_: Gate) -> None:
        raise SideFailed("head raised RuntimeError: at the 1000th call")

    monkeypatch.setattr(Gate, "compare", lambda _, case, *__: CaseResult(Evidence(case.id, new=True), Verdict.NEW))
    monkeypatch.setattr(Gate, "time_head", time_head)
    result = bench(BASE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.outlines[-1].endswith(f"worst: {ONE} ERROR: head raised RuntimeError: at the 1000th call")


REPEATING = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    for _ in range(2):  # as plugins that run a test again do
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


@pytest.mark.parametrize("tries", [(Verdict.DRIFTED, Verdict.UNCHANGED), (Verdict.UNCHANGED, Verdict.DRIFTED)])
def test_a_case_that_is_repeated_is_one_row_with_its_worst_verdict_and_passes_by_no_repetition(
    bench: Bench, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tries: tuple[Verdict, Verdict]
) -> None:
    pytester.makepyfile(repeating=REPEATING)
    pytester.syspathinsert()
    left = iter(tries)
    monkeypatch.setattr(Gate, "compare", lambda _, case, *__: CaseResult(Evidence(case.id), next(left), ("a try",)))
    result = bench("-p", "repeating", BASE, "--gate-json=gate.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (case,) = json.loads((pytester.path / "gate.json").read_text())["cases"]
    assert case["verdict"] == "DRIFTED"
    assert sum(line.startswith(ONE.removesuffix("]")) and "DRIFTED" in line for line in result.outlines) >= 1
    assert "gate: FAIL (1 DRIFTED)" in result.outlines[-1]
