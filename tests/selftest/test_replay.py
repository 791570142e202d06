"""Replaying streams: known answers, error rates on drawn noise, and Wald's numbers."""

import json
import random
from math import exp, inf, log, log1p, nan
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.statistics import Change, PairedTest
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.errors import CannotDo
from bench.plain.evidence import Evidence, Measurement, Pair
from bench.report import pairs as recording
from bench.report.formats import FORMATS
from bench.selftest.replay import main as main_of_replay
from bench.selftest.simulation import (
    Outcome,
    Stream,
    centred,
    replay,
    replay_case,
    replay_run,
    sign_correlation,
    streams_of,
    wald_pairs,
)
from bench.timing.budget import SHARE

POLICY = Policy()
RECORDING = Path(__file__).parent / "recording.json"


def stream(spread: float = 0.03, *, n: int = 400, seed: int = 0, pair_s: float = 0.002) -> Stream:
    noise = random.Random(seed)
    return Stream(tuple(noise.gauss(0, spread) for _ in range(n)), pair_s)


@pytest.mark.parametrize(("shift", "change"), [(0.0, Change.SAME), (log1p(0.10), Change.SLOWER), (-0.2, Change.FASTER)])
def test_a_clear_stream_is_decided_rightly(shift: float, change: Change) -> None:
    outcome = replay(stream(), PairedTest(log1p(0.05), 1e-5, 1e-3), 4.0, shift=shift)
    assert outcome.change is change
    assert 8 <= outcome.pairs <= 150


def test_pairs_that_run_out_decide_nothing() -> None:
    assert replay(stream(), POLICY.test(100), 0.01).change is None


def test_a_stream_that_looks_faster_goes_on_and_is_the_same_when_its_pairs_run_out() -> None:
    faster = Stream(tuple(-0.04 + (i * 7 % 80 - 40) / 1000 for i in range(80)), pair_s=1.0)
    assert replay(faster, POLICY.test(100), 80.0) == Outcome(Change.SAME, 80, 80.0)


def test_a_slowdown_is_confirmed_and_both_measurements_are_paid_for() -> None:
    order = random.Random(0)
    slowed = replay_case([stream()], POLICY.test(100), 10.0, order, shift=0.1)
    unchanged = replay_case([stream()], POLICY.test(100), 10.0, order)
    assert slowed.change is Change.SLOWER
    assert slowed.seconds == pytest.approx(slowed.pairs * 0.002)
    assert slowed.pairs >= 2 * 21  # what a level of 1e-5 takes, twice
    assert unchanged.change is Change.SAME
    assert unchanged.seconds < slowed.seconds


def test_a_pair_of_twins_of_which_one_is_slower_raises_no_alarm_among_others() -> None:
    even = [stream(0.01, seed=i) for i in range(4)]
    uneven = Stream(tuple(d + 0.05 for d in stream(0.01).log_ratios), 0.002)
    outcomes = [replay_case([uneven, *even], POLICY.test(100), 10.0, random.Random(i)) for i in range(50)]
    assert {outcome.change for outcome in outcomes} == {Change.SAME}
    alone = replay_case([uneven], POLICY.test(100), 10.0, random.Random(0))
    assert alone.change is Change.SLOWER  # what a recording of one pair of twins made of it


def test_noise_around_zero_keeps_what_pairs_of_twins_differ_by() -> None:
    pairs_of_twins = [Stream(tuple(d + shift for d in stream().log_ratios), 0.002) for shift in (0.01, 0.02, 0.04)]
    middle, least = pairs_of_twins[1].median, pairs_of_twins[0].median
    assert [s.median for s in centred(pairs_of_twins)] == pytest.approx([least - middle, 0, 0.02])


def test_a_run_shares_its_budget_among_the_streams() -> None:
    policy = Policy(budget_s=0.5)
    hopeless = [[stream(5.0, seed=i)] for i in range(30)]
    outcomes = replay_run(hopeless, policy, policy.test(30), random.Random(0))
    assert [outcome.change for outcome in outcomes] == [None] * 30
    assert sum(outcome.seconds for outcome in outcomes) <= 0.5 * (1 + SHARE * 30) + 0.1


def test_wald_s_numbers_are_those_of_the_textbook() -> None:
    # Signs that are positive with probability 1/4 against 3/4, both errors 1%: log(99) * 0.98 / (0.5 * log 3).
    d = (0.5, 1.5, -0.3, -0.3, -0.3, -0.3, -1.5, -1.5) * 10
    found = wald_pairs(d, 0.9, alarm_level=0.01, miss_level=0.01)
    assert found == pytest.approx(8.197, abs=0.01)
    # An alarm level of 0.0001 raises that by little, for unchanged code seldom comes near it: log(99.99) * 0.9999 - ...
    strict = wald_pairs(d, 0.9, alarm_level=1e-4, miss_level=1e-2)
    assert strict == pytest.approx((0.9999 * log(99.99) - 1e-4 * log(9900)) / (0.5 * log(3)), abs=0.01)
    # Signs that tell nothing take the test for ever.
    assert wald_pairs((-9.0, 9.0), 0.05, alarm_level=0.01, miss_level=0.01) == inf


def test_the_rule_on_recorded_noise_raises_no_alarm_and_catches_the_threshold() -> None:
    cases = streams_of(recording.read(RECORDING))
    test, order = POLICY.test(len(cases)), random.Random(0)
    unchanged = [outcome.change for _ in range(30) for outcome in replay_run(cases, POLICY, test, order)]
    assert Change.SLOWER not in unchanged
    assert unchanged.count(None) <= 0.01 * len(unchanged)
    slowed = [
        replay_case(streams, test, POLICY.budget_s, order, shift=log1p(0.05)).change
        for streams in cases
        for _ in range(10)
    ]
    assert slowed.count(Change.SLOWER) >= 0.99 * len(slowed)


def test_signs_that_follow_each_other_are_seen_as_correlated() -> None:
    assert abs(sign_correlation(stream(n=4000))) < 0.05
    drifting = Stream(tuple(i / 100 for i in range(100)), 0.001)
    assert sign_correlation(drifting) > 0.9


def test_a_stream_that_is_read_more_than_once_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    noise = random.Random(0)
    pairs = tuple(Pair(1e6, 1e6 * exp(noise.gauss(0, 0.01))) for _ in range(10))  # and 13 are needed
    main_of_replay({"short": [Measurement(pairs, 1, 0.1)]}, runs=3, threshold=0.05)
    assert "longer than the recording  3 of 3 " in capsys.readouterr().out


def result(case_id: str, *pairs: tuple[float, float]) -> CaseResult:
    measurement = Measurement(tuple(Pair(*pair) for pair in pairs), 10, 1.5, 2)
    return CaseResult(Evidence(case_id, measurements=(measurement,)), Verdict.UNCHANGED)


def test_recorded_pairs_are_read_back(tmp_path: Path) -> None:
    cases = (
        result("a", (1000, 1100), (1000, 900)),
        result("b", (5, 5)),
        CaseResult(Evidence("skipped"), Verdict.SKIPPED),
    )
    path = tmp_path / "pairs.json"
    path.write_text(FORMATS["pairs"](Run({}, {}, {"threads": 1}, POLICY, cases)))
    read = recording.read(path)
    assert list(read) == ["a", "b"]
    assert read["a"] == cases[0].measurements
    ((first,), _) = streams_of(read)
    assert [round(exp(d), 6) for d in first.log_ratios] == [1.1, 0.9]
    assert first.pair_s == pytest.approx(20e-6)


def recorded(*pairs: tuple[float, float], calls_per_burst: int = 1) -> str:
    first = {"calls_per_burst": calls_per_burst, "warmup_rounds": 2, "seconds": 1.0, "pairs": pairs}
    return json.dumps({"schema": 1, "cases": [{"id": "a", "measurements": [first]}]})


def test_what_is_no_recording_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "pairs.json"
    for text in (
        "",
        "[]",
        "{}",
        100_000 * "[",
        '{"schema": 2, "cases": []}',
        '{"schema": 1, "cases": []}',
        '{"schema": 1, "cases": [{"id": 1}]}',
        recorded((5, 5)).replace('"schema": 1', '"schema": 2'),
        recorded(),
        recorded((0, 5)),
        recorded((5, -5)),
        recorded((5, nan)),
        recorded((5, inf)),
        recorded((5, 10**400)),
        recorded((5, 5), calls_per_burst=0),
    ):
        path.write_text(text)
        with pytest.raises(CannotDo, match="is no recording of --gate-pairs .*: record it anew"):
            recording.read(path)


def test_noise_is_recorded_for_every_case_in_each_pair_of_twins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "noise.json"
    monkeypatch.setattr("bench.selftest.of_suite.TWINS", 2)
    assert main(["selftest", "-k=sdpa-b1h4t64d32-full", f"--pairs={path}", "--time-limit=0.1"]) == 0
    recorded = {case: len(measurements) for case, measurements in recording.read(path).items()}
    assert recorded == dict.fromkeys((f"sdpa-b1h4t64d32-full-fp32-cpu-{way}" for way in ("fwd", "fwdbwd")), 2)


def test_the_command_prints_what_the_rule_does_and_refuses_what_tells_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = random.Random(0)
    pairs = [(1e6, 1e6 * exp(noise.gauss(0, 0.03))) for _ in range(200)]
    path = tmp_path / "pairs.json"
    path.write_text(FORMATS["pairs"](Run({}, {}, {}, POLICY, (result("a", *pairs),))))
    assert main(["replay", str(path), "--runs", "20"]) == 0
    shown = capsys.readouterr().out
    assert "runs with a false alarm    0 of 20 = 0% [0%, 16.84%]" in shown
    assert "longer than the recording  0 of 20 " in shown
    assert "of Wald's, misses shared " in shown
    assert main(["replay", str(tmp_path / "none.json")]) == 4
    assert "record it anew" in capsys.readouterr().err
    path.write_text(FORMATS["pairs"](Run({}, {}, {}, POLICY, (result("a", *pairs), result("b", (5, 5))))))
    assert main(["replay", str(path)]) == 4
    assert capsys.readouterr().err == f"error: {path} has a single pair of b: record for longer\n"
