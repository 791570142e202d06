"""The self-test: that what it injects is what it says, what it counts, and one short real round."""

import json
import random
import re
from contextlib import nullcontext
from dataclasses import replace
from math import exp
from pathlib import Path
from typing import IO

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

import attention
from bench.__main__ import main
from bench.commands import margins
from bench.judging.policy import Policy
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence, Measurement, Pair
from bench.selftest import of_suite as selftest
from bench.selftest.faults import FAULTS
from bench.selftest.findings import Findings, Injection, UnchangedRun, document, table
from bench.selftest.picture import draw, noise
from bench.selftest.trials import Trial
from bench.sources.source import Source
from bench.study import overhead
from bench.suite.base import Base
from bench.suite.cases import Case, Shape
from bench.suite.gate import Gate
from bench.suite.matrix import Row
from bench.suite.side import Side
from bench.suite.sides import in_process
from bench.suite.worker import Worker
from bench.suite.workload import build
from bench.timing.clock import Clock

CASE = "sdpa-b1h4t64d32-full-fp32-cpu-fwd"


def result(verdict: Verdict, pairs: tuple[Pair, ...] | None = None) -> CaseResult:
    jitter = random.Random(0)
    pairs = pairs or tuple(Pair(1e6, 1e6 * (1 + jitter.gauss(0, 0.02))) for _ in range(200))
    evidence = Evidence(CASE, measurements=(Measurement(pairs, 1, 0.5),))
    return CaseResult(evidence, verdict, ratio=1.0, pairs=200, seconds=0.5)


def findings(*verdicts: Verdict, injected: tuple[Injection, ...] = ()) -> Findings:
    unchanged = [UnchangedRun((result(v),)) for v in verdicts]
    stock = {"min:10%": [True, False]}
    return Findings({"threads": 1}, Policy(), "smoke", unchanged, list(injected), stock, seconds=9.0)


def rows(found: Findings) -> dict[str, str]:
    return {line[:46].strip(): line[47:] for line in table(found) if "target" in line}


def test_false_alarms_and_missed_slowdowns_are_counted_against_their_targets() -> None:
    injected = (
        Injection("slowdown", 0.02, CASE, caught=False),
        Injection("slowdown", 0.05, CASE, caught=True),
        Injection("slowdown", 0.05, CASE, caught=False),
        Injection("output error", 0.01, CASE, caught=True),
    )
    found = rows(findings(Verdict.INCONCLUSIVE, Verdict.REGRESSED, Verdict.INCONCLUSIVE, injected=injected))
    assert found["unchanged cases with a false alarm"].startswith("1 of 3 = 33.33% [0.8404%, 90.57%]")
    assert found["unchanged cases with a false alarm"].endswith("target none  NOT MET, 1 over")
    assert found["unchanged cases left undecided"].endswith("target 1%    NOT MET, 65.7% over")
    assert found["unchanged runs that failed"].startswith("1 of 3")
    assert found["slowdown of 2% caught"].endswith("target -")
    assert found["slowdown of 5% caught"].startswith("1 of 2 = 50%")
    assert found["slowdown of 5% caught"].endswith("target 99%   NOT MET, 49% short")
    assert found["output error of 1% caught"].endswith("target 100%  met")
    assert found["stock gate min:10% fails unchanged code"].startswith("1 of 2")


@pytest.mark.parametrize(
    ("tier", "threshold", "seconds", "said"),
    [
        ("pr", 0.05, (80, 90, 200), "90.00 (80.00 to 200.00)                        target 90    met"),
        ("pr", 0.05, (80, 115, 200), "115.00 (80.00 to 200.00)                       target 90    NOT MET, 25 s over"),
        ("pr", 0.02, (80, 115, 200), "115.00 (80.00 to 200.00)                       target -"),
        ("smoke", 0.05, (80, 115, 200), "115.00 (80.00 to 200.00)                       target -"),
    ],
)
def test_the_median_run_of_the_pr_tier_is_held_to_its_time(
    tier: str, threshold: float, seconds: tuple[float, ...], said: str
) -> None:
    unchanged = [UnchangedRun((replace(result(Verdict.UNCHANGED), seconds=s),)) for s in seconds]
    found = rows(Findings({}, Policy(threshold), tier, unchanged))
    assert found["seconds of measuring a run"] == said


def test_pairs_are_counted_against_those_of_wald_s_test_where_these_are_known() -> None:
    def found(*log_ratios: float) -> str:
        pairs = tuple(Pair(1.0, exp(d)) for d in log_ratios)
        unchanged = [UnchangedRun((result(Verdict.UNCHANGED, pairs),))] * 2
        return rows(Findings({}, Policy(), "smoke", unchanged))["times the pairs of Wald's test"]

    # Signs are positive with probability 1/4 against 3/4, both errors 0.1%: log(999) * 0.998 / (0.5 * log 3) = 12.5.
    quarters = (0.03, 0.01, 0.01, -0.03)
    assert found(*quarters * 5) == f"{'1.59':<46} target 2     met"
    assert found(*quarters * 10) == f"{'3.19':<46} target 2     NOT MET, 1.19 over"
    assert found(-9.0, 9.0) == f"{'none known':<46} target 2"


def test_the_document_can_be_written_as_json_and_names_what_was_missed() -> None:
    missed = Injection("slowdown", 0.05, CASE, caught=False, result=result(Verdict.UNCHANGED))
    written = json.loads(json.dumps(document(findings(Verdict.UNCHANGED, injected=(missed,)))))
    assert written["schema"] == 1
    assert written["missed"] == [{"kind": "slowdown", "size": 0.05, "case": CASE, "verdict": "UNCHANGED"}]


def test_a_silent_fault_is_caught_only_by_a_run_that_fails_and_names_it() -> None:
    fault = FAULTS[0]
    assert Trial(fault, 1, f"gate: FAIL (1 {fault.said})").caught
    assert not Trial(fault, 0, fault.said).caught
    assert not Trial(fault, 1, "gate: FAIL (1 ERROR)").caught
    shown = "\n".join(table(replace(findings(Verdict.UNCHANGED), silent={fault.kind: False})))
    assert f"NOT MET, {fault.kind}" in shown


def test_noise_is_the_scaled_spread_of_one_pair() -> None:
    assert noise(findings(Verdict.UNCHANGED))[CASE] == pytest.approx(0.02, rel=0.15)


def test_the_injected_slowdown_has_the_size_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 0

    def tick() -> int:
        nonlocal now_ns
        now_ns += 1
        return now_ns

    def work(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
        nonlocal now_ns
        now_ns += 100_000
        return q

    monkeypatch.setattr("bench.twins.bursts.perf_counter_ns", tick)
    worker = Worker(Side("head", {"k": work}, {}), lambda _: Clock(lambda: now_ns, lambda: None))
    worker.take(build(Case("k", False, Shape.parse("b1h2t8d4"), "full", "fp32", "cpu", "fwd"), {}))

    def cost(share: float | None) -> float:
        worker.slow_down(share)
        worker.settle(())
        return worker.burst(3)

    assert cost(0.05) / cost(0.0) == pytest.approx(1.05, rel=1e-3)
    assert cost(None) == 100_000


@pytest.mark.parametrize("subject", ["sdpa", "mha"])
def test_the_injected_error_reaches_the_output_of_kernels_and_modules(subject: str) -> None:
    sides = in_process(Side.of("head", attention), Side.of("base", attention))
    gate = Gate(sides, Base(Source("here", b"")))
    case = Case(subject, subject == "mha", Shape.parse("b1h2t8d4"), "full", "fp32", "cpu", "fwd")
    for error, wrong in ((0.01, True), (0.0, False)):
        sides.head.ask("falsify", error)
        assert any(found.complaints for found in gate.check(case).errors) is wrong


def test_one_round_measures_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "STOCK_SECONDS", 0.01)
    monkeypatch.setattr(selftest, "INJECTIONS", 1)
    monkeypatch.setattr(selftest, "attempt", lambda fault, *_, **__: Trial(fault, 1, fault.said))  # see test_trials
    found, picture = tmp_path / "found.json", tmp_path / "picture.svg"
    assert (
        main(["selftest", "-k", "manual-b1h4t64d32-full", "--time-limit=1", f"--json={found}", f"--picture={picture}"])
        == 0
    )
    captured = capsys.readouterr()
    assert re.search(r"^unchanged cases with a false alarm +0 of 2 ", captured.out, re.MULTILINE)
    assert re.search(r"^silent faults caught +1 of 1 ", captured.out, re.MULTILINE)
    assert "unchanged: UNCHANGED" in captured.err  # the progress bar
    assert sum(json.loads(found.read_text())["unchanged"][0]["verdicts"].values()) == 2
    assert picture.read_text().startswith("<?xml")


def test_only_cases_that_exist_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "-k", "nothing"]) == 4
    assert "-k nothing: no case of tier smoke has it in its id; give part of one" in capsys.readouterr().err


def test_a_picture_of_another_form_is_refused_before_it_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--picture=picture.gif2"]) == 4
    assert "--picture=picture.gif2: give a name that ends in .svg or .png" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--picture", "--pairs"])
def test_what_cannot_be_written_is_refused_before_it_is_measured(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "opened", lambda *_: pytest.fail("it was measured"))
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "below.svg"
    assert main(["selftest", f"{option}={path}"]) == 4
    assert f"{path} cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["svg", "png"])
def test_a_picture_that_cannot_be_drawn_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    path = tmp_path / f"picture.{form}"
    draw(findings(Verdict.UNCHANGED), path)
    old = path.read_bytes()
    assert old.startswith(b"<?xml" if form == "svg" else b"\x89PNG")

    def half(_: Figure, file: IO[bytes] | Path, **__: object) -> None:
        with file.open("wb") if isinstance(file, Path) else nullcontext(file) as opened:
            opened.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="no space left"):
        draw(findings(Verdict.UNCHANGED), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_margins_are_shown_for_every_kernel_and_dtype(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margins, "ROWS", (Row("smoke", "b1h2t8d8", subjects="kernels modules"),))
    assert main(["margins", "--tier=smoke"]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("| kernel | fp32 output | fp32 gradients | bf16 output |")
    assert [row.split("`")[1] for row in rows] == [*attention.KERNELS, *attention.MODULES]
    shares = [int(cell.strip(" %")) for row in rows for cell in row.split("|")[2:-1] if cell.strip() != "-"]
    assert shares
    assert all(0 <= share <= 100 for share in shares)


def test_overhead_compares_both_with_pytorch_s_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overhead, "MODULE_SIZES", ((1, 16, 64, 4), (2, 8, 32, 2)))  # of the small ones
    assert main(["overhead", "--time-limit=0.02"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert sum(row.startswith("| sdpa, ") for row in rows) == 4
    assert sum(row.startswith("| module, ") for row in rows) == 2 * 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("command", [["selftest"], ["margins"]], ids=["selftest", "margins"])
def test_a_device_that_is_not_there_is_refused(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--device=cuda"]) == 4
    assert "--device=cuda: torch sees only cpu here" in capsys.readouterr().err
