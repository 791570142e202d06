"""From evidence to verdict."""

import random
from dataclasses import replace
from math import log1p
from typing import Any

import pytest

from bench.judging.judge import deciding, judge_case
from bench.judging.policy import Accepted, Policy
from bench.judging.replication import Replications
from bench.judging.verdict import FAILING, Verdict
from bench.plain.evidence import Evidence, Measurement, Pair, TensorError
from bench.plain.execution import Calls, Fingerprint, Pass

POLICY = Policy()
TEST = POLICY.test(100, replications=Replications(POLICY.false_alarm))
WAIVED = Accepted(ratio=1.1, waiver="accepted up to 1.1: #1")
FLASH = Fingerprint(Pass({"aten.flash": 1}, 2**20, 2**20), backend="flash")
MORE = replace(FLASH, forward=Pass({"aten.flash": 1, "aten.mul": 1}, 2**20, 2**20))


def measured(ratio: float, *, pairs: int = 60, noise: float = 0.01) -> Measurement:
    jitter = random.Random(0)
    return Measurement(
        tuple(Pair(1000.0, 1000.0 * ratio * (1 + jitter.uniform(-noise, noise))) for _ in range(pairs)), 10, 0.5
    )


def fine(**changes: object) -> TensorError:
    return replace(TensorError("out", 1e-7, 1e-7, 4e-7, base=1e-7, bit_equal=True), **changes)  # type: ignore[arg-type]  # any field


def timed(*ratios: float, **found: Any) -> Evidence:
    """A case measured once for each ratio."""
    return Evidence("c", measurements=tuple(measured(ratio, noise=0) for ratio in ratios), **found)


BACKENDS: dict[str, Any] = {"base_fingerprint": FLASH, "head_fingerprint": replace(FLASH, backend="math")}


@pytest.mark.parametrize(
    ("evidence", "verdict", "reason"),
    [
        (timed(1.0), Verdict.UNCHANGED, ""),
        (timed(0.8), Verdict.FASTER, ""),
        (timed(2.5, 2.5), Verdict.REGRESSED, "150.0% slower, confirmed by new twins"),
        (timed(1.2, 1.2, **BACKENDS), Verdict.REGRESSED, "20.0% slower, confirmed by new twins; backend flash -> math"),
        (timed(1.2, 1.0), Verdict.UNCHANGED, "not confirmed by new twins"),
        (
            Evidence("c", measurements=(Measurement((Pair(1e10, 1e10),), 1, 41.0),)),
            Verdict.INCONCLUSIVE,
            "undecided after 1 pair in 41.0 s, too few pairs to see any slowdown (13 take about 260 s): raise "
            "--gate-budget, or give its calls less work",
        ),
        (
            Evidence("c", measurements=(measured(1.0, pairs=25, noise=0.9),)),
            Verdict.INCONCLUSIVE,
            "undecided after 25 pairs in 0.5 s, could have seen a slowdown of ",
        ),
        (Evidence("c", differs="the result differs"), Verdict.DRIFTED, "the result differs"),
        (Evidence("c", model="some model", remarks=("read this",)), Verdict.UNCHANGED, "as in some model; read this"),
        (Evidence("c", error="head raised ValueError: no"), Verdict.ERROR, "head raised ValueError: no"),
        (Evidence("c", skipped="needs 9 GiB"), Verdict.SKIPPED, "needs 9 GiB"),
        (Evidence("c", missing="is gone"), Verdict.MISSING, "is gone"),
        (Evidence("c", new=True, errors=(fine(),)), Verdict.NEW, "not in the base: checked, not compared"),
        (Evidence("c", timed=False, errors=(fine(),)), Verdict.UNCHANGED, "checked, not timed"),
        (Evidence("c", timed=False, errors=(fine(complaints=("out: off",)),)), Verdict.DRIFTED, "out: off; checked"),
        (Evidence("c", timed=False, **BACKENDS), Verdict.CHANGED, "backend flash -> math; checked, not timed"),
        (timed(0.5, errors=(fine(complaints=("out: too far",)),)), Verdict.DRIFTED, "out: too far"),
        (Evidence("c", new=True, errors=(fine(complaints=("out: too far",)),)), Verdict.DRIFTED, "out: too far"),
        (timed(1.0, base_fingerprint=FLASH, head_fingerprint=MORE), Verdict.UNCHANGED, "ops +1 aten.mul"),
        (timed(1.0, **BACKENDS), Verdict.CHANGED, "backend flash -> math"),
    ],
)
def test_evidence_leads_to_its_verdict_and_reason(evidence: Evidence, verdict: Verdict, reason: str) -> None:
    result = judge_case(evidence, TEST)
    assert result.verdict is verdict
    assert reason in "; ".join(result.reasons)


def test_a_confirmed_speed_up_and_a_slowdown_that_is_gone_have_these_reasons_and_no_others() -> None:
    assert judge_case(Evidence("c", measurements=(FAST, FAST)), TEST).reasons == ()
    gone = judge_case(Evidence("c", measurements=(SLOW, CLEAR, CLEAR)), TEST)
    assert gone.reasons == ("a slowdown was measured, but not confirmed by new twins",)


def test_reasons_name_new_twins_where_they_measured_again_and_no_others() -> None:
    processes = POLICY.test(100)
    assert judge_case(timed(1.2), processes).reasons == ("20.0% slower, in 60 pairs of processes",)
    has_failed = POLICY.test(100, replications=Replications(0.001, established=True))  # so nothing is replicated
    assert judge_case(timed(1.2, 1.2), has_failed).reasons == ("20.0% slower, confirmed by new twins",)
    assert judge_case(timed(1.2, 1.0, 1.0), has_failed).reasons == (
        "a slowdown was measured, but not confirmed by new twins",
    )


def test_a_new_case_says_what_its_head_alone_shows_and_its_remarks_in_place_of_that_it_is_new() -> None:
    keeps = replace(FLASH, calls=Calls(kept_bytes=8))
    new = judge_case(Evidence("c", new=True, head_fingerprint=keeps), TEST)
    assert new.reasons == ("not in the base: checked, not compared", "keeps 8 bytes a call alive")
    assert judge_case(Evidence("c", new=True, remarks=("read this",)), TEST).reasons == ("read this",)


def test_these_verdicts_fail_and_in_these_cases_alone_nothing_was_compared() -> None:
    assert set(FAILING) == {verdict for verdict in Verdict if verdict.fails}
    assert FAILING == (Verdict.ERROR, Verdict.DRIFTED, Verdict.REGRESSED, Verdict.CHANGED, Verdict.MISSING)
    assert {v for v in Verdict if not v.compared} == {Verdict.NEW, Verdict.SKIPPED, Verdict.MISSING}


def test_a_timed_result_carries_ratio_interval_times_and_what_could_have_been_seen() -> None:
    result = judge_case(Evidence("c", measurements=(measured(1.0),)), TEST)
    (low, high), ratio = result.ci, result.ratio
    assert low is not None
    assert high is not None
    assert ratio is not None
    assert 0.99 < low < ratio < high < 1.01
    assert result.base_ns == 1000.0
    assert (result.head_ns, result.head_by_ratio_ns) == pytest.approx((1000.0 * ratio,) * 2)
    assert (result.host, result.pairs, result.seconds) == (None, 60, 0.5)
    assert judge_case(timed(1.2, 1.2), TEST).seconds == 1.0  # of both measurements


def test_a_case_that_was_not_timed_has_no_figures_and_no_measurements() -> None:
    result = judge_case(Evidence("c", skipped="needs 9 GiB"), TEST)
    assert (result.pairs, result.seconds, result.head_by_ratio_ns, result.margin) == (0, 0.0, None, None)
    assert replace(result, base_ns=1.0).head_by_ratio_ns is None
    assert replace(result, ratio=1.0).head_by_ratio_ns is None


@pytest.mark.parametrize("ratio", [0.8, 1.0])
@pytest.mark.parametrize("pairs", [13, 21, 22, 60])
def test_every_decided_case_says_which_slowdown_it_could_have_seen(ratio: float, pairs: int) -> None:
    result = judge_case(Evidence("c", measurements=(measured(ratio, pairs=pairs, noise=0.001),)), POLICY.test(213))
    assert result.verdict in (Verdict.UNCHANGED, Verdict.FASTER)
    assert result.mde is not None
    assert 0.0 < result.mde < 0.01


def test_the_alarms_of_all_cases_share_one_level_and_each_case_has_all_of_it_for_its_miss() -> None:
    for cases, alarm_level in ((0, POLICY.false_alarm), (1, POLICY.false_alarm), (200, POLICY.false_alarm / 200)):
        test = POLICY.test(cases)
        assert (test.threshold, test.alarm_level, test.miss_level) == (log1p(0.05), alarm_level, POLICY.false_alarm)
    assert POLICY.miss == 2 * POLICY.false_alarm  # in either of two measurements


@pytest.mark.parametrize(
    ("ratio", "verdict", "reason"),
    [
        (1.00, Verdict.UNCHANGED, "no longer needs its waiver (accepted up to 1.1: #1); ops +1 aten.mul"),
        (1.02, Verdict.UNCHANGED, "no longer needs its waiver"),  # half the threshold is 1.025
        (1.03, Verdict.WAIVED, "accepted up to 1.1: #1; ops +1 aten.mul"),
        (1.08, Verdict.WAIVED, "accepted up to 1.1: #1"),
        (1.10, Verdict.WAIVED, "accepted up to 1.1: #1"),
        (1.12, Verdict.WAIVED, "accepted up to 1.1: #1"),  # half the threshold above is 1.127, all of it 1.155
        (1.16, Verdict.REGRESSED, "% slower, confirmed by new twins"),
        (1.20, Verdict.REGRESSED, "% slower, confirmed by new twins"),
        (0.70, Verdict.FASTER, ""),
    ],
)
def test_a_waived_slowdown_is_shown_as_such_and_fails_beyond_its_bound(
    ratio: float, verdict: Verdict, reason: str
) -> None:
    test = POLICY.test(100, WAIVED)
    seen = replace(timed(ratio, ratio), base_fingerprint=FLASH, head_fingerprint=MORE)
    result = judge_case(seen, test)
    assert result.verdict is verdict
    assert reason in "; ".join(result.reasons)
    assert judge_case(Evidence("c", timed=False), test).reasons == ("checked, not timed",)  # whatever is waived


def test_a_case_s_own_threshold_replaces_the_run_s_and_is_shown_whatever_the_verdict() -> None:
    slower = timed(1.08, 1.08, base_fingerprint=FLASH, head_fingerprint=MORE)
    assert judge_case(slower, POLICY.test(100)).verdict is Verdict.REGRESSED
    for share, verdict in ((0.2, Verdict.UNCHANGED), (0.1, Verdict.REGRESSED)):
        result = judge_case(slower, POLICY.test(100, Accepted(share, "has its own threshold")))
        assert result.verdict is verdict
        assert result.reasons[-2:] == ("has its own threshold", "ops +1 aten.mul")


@pytest.mark.parametrize(("threshold", "budget_s"), [(0.05, 30.0), (0.02, 187.5), (0.5, 30.0)])
def test_a_smaller_threshold_has_a_larger_budget_and_a_larger_one_no_smaller(threshold: float, budget_s: float) -> None:
    assert Policy.default_budget_s(threshold) == pytest.approx(budget_s)


CLEAR, SLOW, FAST = measured(1.0), measured(1.2), measured(0.8)


@pytest.mark.parametrize(
    ("measurements", "decides", "verdict"),
    [
        ([CLEAR], 0, Verdict.UNCHANGED),
        ([FAST], None, None),
        ([FAST, FAST], 1, Verdict.FASTER),
        ([FAST, CLEAR, CLEAR], 2, Verdict.UNCHANGED),
        ([FAST, SLOW, CLEAR], 2, Verdict.UNCHANGED),
        ([CLEAR, FAST, SLOW], 0, Verdict.UNCHANGED),
        ([measured(1.0, pairs=3)], 0, Verdict.INCONCLUSIVE),
        ([measured(1.04, pairs=3)], 0, Verdict.INCONCLUSIVE),
        ([SLOW], None, None),
        ([SLOW, SLOW], 1, Verdict.REGRESSED),
        ([SLOW, CLEAR], None, None),
        ([SLOW, CLEAR, CLEAR], 2, Verdict.UNCHANGED),
        ([SLOW, CLEAR, SLOW], 2, Verdict.REGRESSED),
        ([measured(1.04, noise=0.005), CLEAR], None, None),  # certain to be above half the threshold
    ],
)
def test_what_is_not_clear_is_decided_by_two_of_at_most_three_measurements(
    measurements: list[Measurement], decides: int | None, verdict: Verdict | None
) -> None:
    assert deciding(measurements, TEST) == decides
    if verdict is not None:
        assert judge_case(Evidence("c", measurements=tuple(measurements)), TEST).verdict is verdict


def test_a_median_between_half_the_threshold_and_all_of_it_is_measured_again_though_it_is_called_unchanged() -> None:
    near = Measurement(tuple(Pair(1000.0, 1000.0 * r) for r in (1.02,) * 40 + (1.03,) * 60 + (1.04,) * 8), 1, 0.5)
    assert judge_case(Evidence("c", measurements=(near,)), TEST).verdict is Verdict.UNCHANGED
    assert deciding([near], TEST) is None
    assert deciding([near, near], TEST) == 1
    assert deciding([near, CLEAR], TEST) == 1
