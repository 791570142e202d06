"""Whole runs that end in a verdict: comparing, saving, reporting.

Over 300 lines: whole runs, which share their fixtures.
"""

import json
import re
import shlex
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

Bench = Callable[..., pytest.RunResult]
Edit = Callable[[str, str], Path]
REPOSITORY = Path(__file__).parents[2]
ONE = "sdpa-b1h4t64d32-full-fp32-cpu-fwd"
CHECKED = "masked-b2h2t20k28d64-boolmaskbhqk-fp32-cpu-fwdbwd"  # and not timed
BOTH = f"{ONE}] or {CHECKED}]"
BASE = f"--gate-base={REPOSITORY}"


def test_the_same_code_passes_and_says_so_last(bench: Bench) -> None:
    result = bench(BASE)
    assert result.ret == 0
    assert result.outlines[-1] == "gate: PASS, no slowdown of 5% and no drift in 1 case (1 UNCHANGED)"
    assert any(line.startswith(ONE) and "UNCHANGED" in line for line in result.outlines)
    assert any("(identical source)" in line for line in result.outlines)


def test_the_json_report_says_what_was_asked_measured_and_executed(bench: Bench, pytester: pytest.Pytester) -> None:
    bench(BASE, "--gate-json=out/report.json", "--gate-threshold=7.5%")
    report = json.loads((pytester.path / "out" / "report.json").read_text())
    assert report["schema"] == 1
    assert report["policy"]["threshold"] == 0.075
    assert report["exit_code"] == 0
    assert report["summary"] == {"UNCHANGED": 1}
    assert {"cpu", "cores", "threads", "torch", "python", "libc", "malloc"} <= set(report["environment"])
    (case,) = report["cases"]
    assert case["id"] == ONE
    assert len(case["ci"]) == 2
    assert case["error"]["out"]["bit_equal"] is True
    seen = case["fingerprint"]["head"]
    assert {"ops", "peak_bytes", "allocated_bytes", "forward", "backward", "sdpa", "compilation"} <= set(seen)
    assert seen["backend"] == "flash"
    assert seen["backward"] is None
    assert case["work"]["flops"] == 4 * 4 * 64 * 64 * 32
    (ceiling,) = report["ceilings"]
    assert ceiling["dtype"] == "fp32"
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


def test_what_a_case_took_is_taken_from_the_budget_of_the_others(
    bench: Bench, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[SharedBudget] = []

    def make(cap_s: float, cases: int) -> SharedBudget:
        budgets.append(SharedBudget(cap_s, cases))
        return budgets[-1]

    monkeypatch.setattr("bench.session.SharedBudget", make)
    assert bench(BASE, "--gate-json=report.json", case=f"{ONE}] or {ONE.replace('sdpa', 'masked')}]").ret == 0
    (budget,), cases = budgets, json.loads((pytester.path / "report.json").read_text())["cases"]
    assert len(cases) == 2
    assert budget.cases_left == 0
    assert budget.left_s == pytest.approx(SharedBudget(Policy.budget_s, 2).left_s - sum(c["seconds"] for c in cases))


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_the_other_reports_say_the_verdict_first(bench: Bench, pytester: pytest.Pytester, form: str) -> None:
    bench(BASE, f"--gate-{form}=report")
    text = (pytester.path / "report").read_text()
    assert text.index("gate: PASS") < text.index(ONE)


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


WRONG = replacing("sdpa", "lambda *a, **k: right.function(*a, **k) * 1.01")


def test_a_wrong_kernel_fails_with_exit_code_1_and_says_how_wrong(bench: Bench, edit: Edit) -> None:
    edit("sdpa", WRONG)
    result = bench(BASE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.outlines[-1].startswith(f"gate: FAIL (1 DRIFTED); worst: {ONE} DRIFTED: out: error ")
    assert any("is over its budget" in line for line in result.outlines)


def test_the_commands_of_a_failing_case_reproduce_and_explain_it(
    bench: Bench, edit: Edit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("sdpa", WRONG)
    lines = bench("--gate-base=HEAD", "--threads=1").outlines
    again, explain = (
        next(shlex.split(line.partition(": ")[2]) for line in lines if line.startswith(f"  to {what} it: "))
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


def test_a_kernel_that_raises_is_an_error_row_and_not_the_end_of_the_run(bench: Bench, edit: Edit) -> None:
    raises = "def raises(*_, **__):\n    raise RuntimeError('no kernel image')\n"
    edit("sdpa", raises + replacing("sdpa", "raises"))
    result = bench(BASE, case=f"{ONE}] or manual-b1h4t64d32-full-fp32-cpu-fwd]")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "(1 ERROR, 1 UNCHANGED)" in result.outlines[-1]
    assert "head raised RuntimeError: no kernel image" in result.outlines[-1]


def test_a_kernel_that_is_gone_from_the_head_is_missing(bench: Bench, edit: Edit) -> None:
    edit("manual", "from .registry import KERNELS\ndel KERNELS['manual']")
    result = bench(BASE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert any(
        line.startswith("manual-b1h4t64d32-full-fp32-cpu-fwd ") and "MISSING" in line for line in result.outlines
    )
    assert bench(BASE, "--shard=2/2", case="sdpa- and b1h4t64d32 and fwd]").ret == 0  # said once, by the first shard


def test_a_capability_that_the_head_lost_is_missing(bench: Bench, edit: Edit) -> None:
    edit("masked", replacing("masked", "right.function", "Capabilities(causal=False)"))
    result = bench(BASE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert any(line.startswith("masked-b1h4t64d32-causal") and "MISSING" in line for line in result.outlines)


@pytest.fixture
def _mine(edit: Edit) -> None:
    """A kernel that the head has and the base has not."""
    edit(
        "mine",
        "from .registry import Capabilities, register\nfrom .sdpa import sdpa\n"
        "mine = register('mine', Capabilities(causal=False))(sdpa.function)",
    )


@pytest.mark.usefixtures("_mine")
def test_a_new_kernel_is_checked_and_does_not_fail(bench: Bench) -> None:
    result = bench(BASE, case="b1h4t64d32 and fp32 and fwd] and (mine or sdpa-)")
    assert result.ret == 0
    assert "(1 NEW, 2 UNCHANGED, 1 SKIPPED)" in result.outlines[-1]
    assert any("mine does not support causal attention" in line for line in result.outlines)


@pytest.mark.usefixtures("_mine")
def test_a_new_kernel_is_timed_for_the_next_baseline(bench: Bench, pytester: pytest.Pytester) -> None:
    case = "b1h4t64d32-full-fp32-cpu-fwd] and (mine or sdpa-)"
    assert bench(BASE, "--benchmark-save=new", case=case).ret == 0
    (stored,) = pytester.path.rglob("0001_new.json")
    timed = {b["extra_info"]["case"] for b in json.loads(stored.read_text())["benchmarks"]}
    assert timed == {ONE, ONE.replace("sdpa", "mine")}


def test_a_saved_baseline_is_compared_with_by_the_plain_option(bench: Bench, pytester: pytest.Pytester) -> None:
    assert bench("--benchmark-save=first").ret == 0
    (stored,) = pytester.path.rglob("0001_first.json")
    document = json.loads(stored.read_text())
    (benchmark,) = document["benchmarks"]
    assert benchmark["extra_info"]["case"] == ONE
    assert set(benchmark["extra_info"]) == {"case", "errors", "fingerprint"}
    assert {"schema", "source_zip_base64", "source_sha256", "environment", "untimed"} == set(document["gate"])
    for argument in ("--benchmark-compare", "--benchmark-compare=0001", f"--benchmark-compare={stored}"):
        result = bench(argument)
        assert result.ret == 0
        assert any("base: baseline 0001_first.json" in line for line in result.outlines)


def test_a_case_that_is_not_timed_is_checked_on_both_sides_at_no_cost(bench: Bench) -> None:
    result = bench(BASE, "--gate-json=report.json", case=BOTH)
    assert result.ret == 0
    assert "no slowdown of 5% in 1 case and no drift in 2 cases (2 UNCHANGED)" in result.outlines[-1]
    assert any(line.startswith(CHECKED) and line.endswith("checked, not timed") for line in result.outlines)
    document = json.loads(Path("report.json").read_text())
    (checked,) = (case for case in document["cases"] if case["id"] == CHECKED)
    assert checked["ratio"] is None
    assert {error["bit_equal"] for error in checked["error"].values()} == {True}
    assert checked["fingerprint"]["base"] is not None


def test_a_case_that_is_not_timed_is_stored_without_times_and_missed_when_it_is_gone(
    bench: Bench, pytester: pytest.Pytester, edit: Edit
) -> None:
    assert bench("--benchmark-save=first", case=BOTH).ret == 0
    (stored,) = pytester.path.rglob("0001_first.json")
    (untimed,) = json.loads(stored.read_text())["gate"]["untimed"]
    assert untimed["case"] == CHECKED
    assert set(untimed) == {"case", "errors", "fingerprint"}
    edit("masked", replacing("masked", "right.function", "Capabilities(masks=frozenset({'float'}), window=True)"))
    result = bench("--benchmark-compare")
    assert any(line.startswith(CHECKED) and "MISSING" in line for line in result.outlines)


def test_a_wrong_case_that_is_not_timed_fails_the_run(
    bench: Bench, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "lambda *a, mask, **k: right.function(*a, mask=None if mask is None else mask[:, :1], **k)"
    edit("masked", replacing("masked", wrong))
    assert bench(BASE, case=CHECKED).ret == pytest.ExitCode.TESTS_FAILED
    replace_here(monkeypatch, "masked", 1.01)  # without a comparison the head is in this process
    assert bench(case=CHECKED).ret == pytest.ExitCode.TESTS_FAILED


def test_the_level_and_the_budget_are_shared_among_the_cases_that_are_timed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: set[int] = set()
    test, start = Policy.test, SharedBudget.__post_init__

    def noted_test(policy: Policy, cases: int, **own: Any) -> Any:
        shared.add(cases)
        return test(policy, cases, **own)

    def noted_start(budget: SharedBudget) -> None:
        shared.add(budget.cases_left)
        start(budget)

    monkeypatch.setattr(Policy, "test", noted_test)
    monkeypatch.setattr(SharedBudget, "__post_init__", noted_start)
    assert bench(BASE, case=BOTH).ret == 0
    assert shared == {1}


def test_the_stored_file_is_read_by_pytest_benchmark_s_own_compare(bench: Bench, pytester: pytest.Pytester) -> None:
    bench("--benchmark-save=first")
    shown = pytester.run("pytest-benchmark", "compare", "0001", "--columns=min,median")
    assert shown.ret == 0
    assert any(f"test_attention[{ONE}]" in line for line in shown.outlines)


def test_a_comparison_can_be_saved_with_the_times_that_were_paired(bench: Bench, pytester: pytest.Pytester) -> None:
    result = bench(BASE, "--benchmark-save=paired", "--gate-json=report.json")
    assert result.ret == 0
    (stored,) = pytester.path.rglob("0001_paired.json")
    stats = json.loads(stored.read_text())["benchmarks"][0]["stats"]
    case = json.loads((pytester.path / "report.json").read_text())["cases"][0]
    assert stats["rounds"] == case["pairs"]
    assert stats["median"] == pytest.approx(case["head_ns"] * 1e-9)


def test_a_run_that_failed_is_not_saved_as_the_next_baseline(
    bench: Bench, pytester: pytest.Pytester, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit("sdpa", WRONG)
    replace_here(monkeypatch, "sdpa", 1.01)
    compared, plain = bench(BASE, "--benchmark-autosave"), bench("--benchmark-save=wrong")
    assert compared.ret == plain.ret == pytest.ExitCode.TESTS_FAILED
    assert compared.outlines[-1].endswith("; no baseline was saved")
    assert plain.outlines[-1] == "benchmarks failed; no baseline was saved"
    assert not list(pytester.path.rglob("*.json"))


def test_plain_benchmarks_check_the_output_before_timing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = bench()
    assert passed.parseoutcomes()["passed"] == 1
    assert any("Name (time in" in line for line in passed.outlines)
    replace_here(monkeypatch, "sdpa", 1.01)
    result = bench()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert not any("Name (time in" in line for line in result.outlines)


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
    workers = ("-n2", "--max-worker-restart=0", "-o", f"pythonpath={REPOSITORY} {pytester.path}")
    case = f"{ONE.replace('sdpa', 'right')}] or {ONE.replace('sdpa', 'mine')}]"
    result = bench("--kernel=outside:mine", "--kernel=outside:right", "--benchmark-disable", *workers, case=case)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert any(line.startswith("2 workers [2 items]") for line in result.outlines)
    assert any("is over its budget" in line for line in result.outlines)
    (failed,) = [line for line in result.outlines if line.startswith("FAILED")]
    assert ONE.replace("sdpa", "mine") in failed
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], outcomes["passed"]) == (1, 1)


def test_unsupported_cases_are_listed_with_their_reason(bench: Bench) -> None:
    result = bench("-rs", case="manual and causal")
    assert any("manual does not support causal attention" in line for line in result.outlines)


def test_verbose_progress_names_the_verdict_of_each_case(bench: Bench) -> None:
    assert any(f"[{ONE}] UNCHANGED" in line for line in bench(BASE, "-v").outlines)


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
