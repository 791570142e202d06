"""Whether a claim holds: from tables of results to verdicts and reasons."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.study.estimate import Estimate
from bench.study.judgement import CLAIMS, ClaimVerdict, Judgement, in_range, judge
from bench.study.report import summarise
from bench.study.results import Quantity, Results

Found = Callable[..., Results]


def of(judgements: list[Judgement], text: str, device: str) -> Judgement:
    (one,) = (j for j in judgements if text in j.claim.text and j.device == device)
    return one


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (2.6, 2.9, ClaimVerdict.HOLDS),
        (2.5, 3.0, ClaimVerdict.HOLDS),
        (3.1, 3.2, ClaimVerdict.DOES_NOT_HOLD),
        (1.0, 2.4, ClaimVerdict.DOES_NOT_HOLD),
        (2.4, 2.6, ClaimVerdict.CANNOT_TELL),
        (2.0, 4.0, ClaimVerdict.CANNOT_TELL),
        (None, 2.9, ClaimVerdict.CANNOT_TELL),
        (2.6, None, ClaimVerdict.CANNOT_TELL),
    ],
)
def test_a_claim_holds_if_the_whole_interval_is_in_its_range(
    low: float | None, high: float | None, verdict: ClaimVerdict
) -> None:
    assert in_range(Estimate(2.7, low, high, 20), 2.5, 3.0) is verdict


def test_without_a_gpu_its_claims_need_one_and_are_judged_on_the_cpu_as_well(found: Found) -> None:
    judgements = judge(found("cpu"), ("cpu",))
    for claim in CLAIMS:
        (first, *instead) = [j for j in judgements if j.claim is claim]
        if claim.device == "cuda":
            assert (first.verdict, first.reason) == (ClaimVerdict.NEEDS_GPU, "no GPU was measured")
            assert [j.device for j in instead] == ["cpu"]
        else:
            assert first.verdict is not ClaimVerdict.NEEDS_GPU
            assert not instead


def test_with_a_gpu_its_claims_are_judged_there(found: Found) -> None:
    judgements = judge(found("cuda", hand=2.7), ("cuda",))
    assert of(judgements, "faster with 8 heads", "cuda").verdict is ClaimVerdict.HOLDS
    assert of(judgements, "time grows close to T^2, SDPA", "cuda").verdict is ClaimVerdict.HOLDS
    assert of(judgements, "memory grows close to T^2, SDPA", "cuda").verdict is ClaimVerdict.HOLDS
    assert of(judgements, "first run is slower", "cuda").verdict is ClaimVerdict.HOLDS
    assert of(judgements, "more than 80 times", "cuda").verdict is ClaimVerdict.HOLDS
    assert of(judgements, "by hand is faster than PyTorch", "cuda").verdict is ClaimVerdict.DOES_NOT_HOLD


def test_a_claim_that_does_not_hold_says_what_was_measured(found: Found) -> None:
    judgements = judge(found("cpu", hand=0.5, growth=1.0), ("cpu",))
    slower = of(judgements, "PyTorch is faster than by hand", "cpu")
    assert slower.verdict is ClaimVerdict.DOES_NOT_HOLD
    assert slower.reason == "by hand takes 0.5 times as long as PyTorch"
    growth = of(judgements, "time grows close to T^2, SDPA", "cpu")
    assert growth.verdict is ClaimVerdict.DOES_NOT_HOLD
    assert "T^1" in growth.reason
    assert "the study's own figures give T^1.25" in growth.reason


def test_what_was_not_measured_cannot_be_told_and_says_why(found: Found) -> None:
    def without(series: Results) -> Results:
        return Results(
            tuple(
                replace(s, values=(), missing="it failed") if (s.part, s.quantity) == ("A2", Quantity.PAIRED_NS) else s
                for s in series.series
            )
        )

    judged = of(judge(without(found("cpu")), ("cpu",)), "PyTorch is faster than by hand", "cpu")
    assert judged.verdict is ClaimVerdict.CANNOT_TELL
    assert judged.reason == "by hand was not measured: it failed"
    nothing = judge(Results(), ("cpu",))
    assert of(nothing, "PyTorch is faster than by hand", "cpu").reason == "by hand was not measured: not asked for"
    assert {j.verdict for j in nothing} == {ClaimVerdict.CANNOT_TELL, ClaimVerdict.NEEDS_GPU}


def test_the_summary_counts_each_claim_once_on_the_study_s_device(found: Found) -> None:
    judgements = judge(found("cpu", hand=2.7), ("cpu",))
    text = summarise(judgements)
    assert text.startswith(f"Of the study's {len(CLAIMS)} claims, on the device that each is about: ")
    assert f"needs a GPU: {sum(c.device == 'cuda' for c in CLAIMS)}." in text
    assert "Claims about a GPU, tried on this CPU: holds: " in text
