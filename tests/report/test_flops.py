"""What a GPU reached, and the host's line below a case, in every report."""

from dataclasses import replace

import pytest

from bench.judging.run import Run
from bench.judging.verdict import CaseResult, HostTime, Verdict
from bench.plain.evidence import Evidence
from bench.plain.execution import Ceiling, Cost
from bench.report.as_html import as_html
from bench.report.as_markdown import as_markdown
from bench.report.flops import PUBLISHED, rates
from bench.report.terminal import write_table

from .conftest import some_run
from .test_terminal import Lines

LONG = "sdpa-b1h16t16384d128-{}-bf16-cuda-{}"
PEAK = Ceiling("bf16", "cuda", 1, 800e12, 3e12)
HOST = HostTime(20_000.0, 25_000.0, Verdict.REGRESSED, 1.25, (1.2, 1.3), 41)


def case(name: str, *, device: str = "cuda", flops: int = 2 * 10**12, moved: int = 10**8) -> CaseResult:
    work = Cost(flops, moved, "bf16", device)
    evidence = Evidence(name, work=work)
    return CaseResult(evidence, Verdict.UNCHANGED, ratio=1.25, ci=(1.2, 1.3), pairs=40, base_ns=4e6, head_ns=5.1e6)


def run(*cases: CaseResult) -> Run:
    return replace(some_run(*cases), ceilings=(PEAK,))


def terminal_of(of: Run) -> list[str]:
    terminal = Lines()
    write_table(of, terminal)
    return terminal.lines


@pytest.mark.parametrize("mask", ["full", "causal"])
def test_a_case_on_a_gpu_says_what_it_reached_of_the_peak_beside_what_was_published(mask: str) -> None:
    (rate,) = rates([case(LONG.format(mask, "fwd"))], (PEAK,))
    assert rate.cells == (LONG.format(mask, "fwd"), "500", "400", "50%", PUBLISHED[mask])


@pytest.mark.parametrize("name", [LONG.format("full", "fwdbwd"), LONG.format("causalwindow64", "fwd"), "sdpa-x"])
def test_nothing_is_published_of_other_work(name: str) -> None:
    (rate,) = rates([case(name)], (PEAK,))
    assert rate.cells[-1] == "-"


def test_cases_on_a_cpu_of_bytes_and_without_times_have_no_rate_and_the_best_is_first() -> None:
    fast, slow = case("fast", flops=3 * 10**12), case("slow")
    left_out = case("a", device="cpu"), case("b", flops=10**6), replace(case("c"), base_ns=None)
    assert [rate.case_id for rate in rates([slow, *left_out, fast], (PEAK,))] == ["fast", "slow"]
    (unknown,) = rates([slow], ())
    assert unknown.cells[3] == "-"


def test_every_report_says_it() -> None:
    name = LONG.format("full", "fwd")
    of = run(case(name))
    assert f"{name}: 500 -> 400 TFLOP/s, 50% of the measured peak; published, {PUBLISHED['full']}" in terminal_of(of)
    assert "TFLOP/s of 1 case on a GPU" in as_markdown(of)
    assert "| 500 | 400 | 50% |" in as_markdown(of)
    assert '<td class="number">400</td>' in as_html(of)
    cpu = run(case("x", device="cpu"))
    assert not any("TFLOP/s" in text for text in (*terminal_of(cpu), as_markdown(cpu), as_html(cpu)))


def test_the_host_s_time_has_a_line_of_its_own_below_its_case() -> None:
    of = run(replace(case("x"), verdict=Verdict.REGRESSED, host=HOST))
    lines = terminal_of(of)
    (at,) = (i for i, line in enumerate(lines) if line.startswith("  its host's time"))
    assert lines[at - 1].startswith("x ")
    assert lines[at].split()[3:] == ["REGRESSED", "1.250", "[1.200,", "1.300]", "20", "us", "25", "us", "41"]
    assert "|   its host's time | REGRESSED | 1.250 | &#91;1.200, 1.300] | 20 us | 25 us | 41 |" in as_markdown(of)
    assert "REGRESSED" in as_html(of).partition("Time beside the device")[2][:600]


def test_a_host_s_time_that_nobody_judged_has_no_line() -> None:
    of = run(replace(case("x"), host=HostTime(20_000.0, 25_000.0)))
    assert not any("host's time" in line for line in terminal_of(of))
