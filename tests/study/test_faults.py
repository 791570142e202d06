"""The three faults of the study's code: that the wrong way is wrong, and the right way right."""

import random
from statistics import fmean

import pytest
import torch

from bench.study import faults
from bench.study.estimate import mean_without_outliers
from bench.study.faults import Queue, blind_rows_zeroed, masked_weights, mean_after_warm_up, to_the_median
from bench.study.published import CONSTANT, EARLY, MEAN
from bench.study.results import Results, Series
from bench.study.setting import Setting
from bench.study.subjects import Subjects
from bench.timing.clock import Clock

VISIBLE = torch.tensor([[False, False, False], [True, True, False]])


def test_minus_1e9_does_not_fit_fp16_and_minus_infinity_does() -> None:
    scores = torch.randn(2, 3, dtype=torch.float16)
    with pytest.raises(RuntimeError, match="without overflow"):
        masked_weights(scores, VISIBLE, -1e9)
    assert torch.isfinite(blind_rows_zeroed(scores, VISIBLE)).all()


def test_with_minus_1e9_a_query_that_sees_nothing_becomes_the_mean_of_v_and_should_be_zero() -> None:
    scores, v = torch.randn(2, 3), torch.randn(3, 4)
    wrong, right = masked_weights(scores, VISIBLE, -1e9) @ v, blind_rows_zeroed(scores, VISIBLE) @ v
    torch.testing.assert_close(wrong[0], v.mean(dim=0))
    assert torch.equal(right[0], torch.zeros(4))
    torch.testing.assert_close(wrong[1], right[1])  # a query that sees something is the same


def test_a_clock_started_before_the_warm_up_is_done_counts_its_work_too() -> None:
    taken = {}
    for wait in (False, True):
        queue = Queue(work_ns=1_000_000)
        taken[wait] = mean_after_warm_up(queue.call, queue.clock(), warmups=50, runs=500, wait=wait)
    assert taken[True] == pytest.approx(1_000_000, rel=1e-3)
    assert taken[False] == pytest.approx(1_100_000, rel=1e-3)  # 550 calls' work divided by 500


def test_the_plain_mean_follows_outliers_which_the_protocol_drops() -> None:
    noise = random.Random(0)
    runs = [1.0 + 0.01 * noise.random() for _ in range(1000)]
    runs[::25] = [10.0] * 40  # one run in 25 is interrupted
    assert fmean(to_the_median(runs, fmean)) == pytest.approx(1.36, abs=0.01)
    assert fmean(to_the_median(runs, mean_without_outliers)) == pytest.approx(1.0, abs=0.01)


def test_blocks_are_whole_and_of_few_runs_there_is_one() -> None:
    assert len(to_the_median([1.0] * 149, fmean)) == 2
    assert to_the_median([1.0, 2.0, 9.0], fmean) == (2.0,)


def test_each_fault_is_measured_both_ways_on_this_machine() -> None:
    place = Setting("cpu", Clock.of("cpu"), Subjects(only=()), budget_s=0.2)
    found = Results(tuple(s for part in faults.parts("cpu", place.subjects) for s in part.measure(place)))

    def one(part: str, subject: str, case: str) -> Series:
        series = found.one(part=part, subject=subject, case=case)
        assert series is not None
        return series

    assert "without overflow" in (one(CONSTANT, "with -1e9", "fp16").missing or "")
    wrong, mean = one(CONSTANT, "with -1e9", "fp32"), one(CONSTANT, "what the mean of v is", "fp32")
    assert wrong.values == pytest.approx(mean.values)
    for dtype in ("fp32", "fp16"):
        assert one(CONSTANT, "with -inf, blind rows zero", dtype).values == (0.0,)
    early = one(EARLY, "no wait after the warm-up", "a queue of 1 ms calls")
    assert early.values[0] > one(EARLY, "wait after the warm-up", "a queue of 1 ms calls").values[0]
    assert one(MEAN, "mean", "b1h8t128d64").values
    assert one(MEAN, "mean without outliers", "b1h8t128d64").values
