"""The three faults of the study's published code, each shown beside what is done here."""

import random
from statistics import fmean, median

import pytest
import torch

import attention
from bench.study.estimate import mean_without_outliers
from bench.study.published import RUNS, WARMUPS
from bench.timing.clock import Clock

VISIBLE = torch.tensor([[False, False, False], [True, True, False], [True, True, True]])


def test_minus_1e9_does_not_fit_fp16_and_a_query_that_sees_nothing_becomes_the_mean_of_v() -> None:
    with pytest.raises(RuntimeError, match="without overflow"):
        torch.zeros(3, 3, dtype=torch.float16).masked_fill(~VISIBLE, -1e9)
    v = torch.randn(3, 4)
    weights = torch.randn(3, 3).masked_fill(~VISIBLE, -1e9).softmax(dim=-1)
    torch.testing.assert_close((weights @ v)[0], v.mean(dim=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_here_a_query_that_sees_nothing_becomes_zero(dtype: torch.dtype) -> None:
    q, k, v = (torch.randn(1, 1, 3, 4, dtype=dtype) for _ in range(3))
    out = attention.KERNELS["masked"](q, k, v, mask=VISIBLE, causal=False)
    assert torch.equal(out[0, 0, 0], torch.zeros(4, dtype=dtype))
    assert torch.isfinite(out).all()


class Queue:
    """A device that works through a queue: a call takes no time to queue, and waiting takes until all are done."""

    def __init__(self) -> None:
        self.now_ns = self.done_ns = 0

    def call(self) -> None:
        self.done_ns = max(self.done_ns, self.now_ns) + 1_000_000

    def synchronize(self) -> None:
        self.now_ns = max(self.now_ns, self.done_ns)


def test_a_clock_started_before_the_warm_up_is_done_counts_its_work_too_and_ours_does_not() -> None:
    theirs, ours = Queue(), Queue()
    for queue in (theirs, ours):
        for _ in range(WARMUPS):
            queue.call()
    start_ns = theirs.now_ns  # nothing waited for the queue
    for _ in range(RUNS):
        theirs.call()
    theirs.synchronize()
    assert (theirs.now_ns - start_ns) / RUNS == 1_100_000  # the work of 550 calls, divided by 500
    assert Clock(lambda: ours.now_ns, ours.synchronize).burst(ours.call, RUNS) == 1_000_000


def test_the_plain_mean_follows_outliers_which_the_protocol_drops() -> None:
    noise = random.Random(0)
    runs = [1.0 + 0.01 * noise.random() for _ in range(1000)]
    runs[::25] = [10.0] * 40  # one run in 25 is interrupted
    assert fmean(runs) / median(runs) == pytest.approx(1.36, abs=0.01)
    assert mean_without_outliers(runs) / median(runs) == pytest.approx(1.0, abs=0.01)
