"""The three faults of the study's published code, each beside the right way: what it does to the result."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from ..judging.statistics import median
from ..timing.clock import Clock, Stopwatch
from .estimate import without_outliers
from .published import BLOCK, BY_HAND, CONSTANT, EARLY, MEAN, RUNS, WARMUPS
from .results import Series
from .sampling import protocol
from .setting import Part, Setting, Unmeasurable, entry, ready
from .subjects import Subjects

OFF_BY = "largest error"
NS = "ns a call"
SHARE = "ratio to the median"
WAYS = ((False, "no wait after the warm-up"), (True, "wait after the warm-up"))


def parts(device: str, subjects: Subjects) -> list[Part]:  # noqa: ARG001  # every table's parts are asked alike
    """Name the parts: the masking constant, the early clock, the plain mean."""
    return [
        Part(f"fault: {CONSTANT}", device, 1, masking_constant),
        Part(f"fault: {EARLY}", device, 1, early_clock),
        Part(f"fault: {MEAN}", device, 4, plain_mean),
    ]


# --- 1. It masks with -1e9 ---


def masked_weights(scores: Tensor, visible: Tensor, constant: float) -> Tensor:
    """The wrong way, with -1e9: softmax of scores (..., Tq, Tk) whose invisible keys are set to a constant."""
    return scores.masked_fill(~visible, constant).softmax(dim=-1)


def blind_rows_zeroed(scores: Tensor, visible: Tensor) -> Tensor:
    """The right way: -inf for what is invisible, and zeros for a row that sees nothing."""
    blind = ~visible.any(dim=-1, keepdim=True)
    weights = scores.masked_fill(~visible, -torch.inf).masked_fill(blind, 0.0).softmax(dim=-1)
    return weights.masked_fill(blind, 0.0)


def masking_constant(setting: Setting) -> Iterator[Series]:
    """Weigh v where one query sees nothing: what each way gives in FP32 and FP16, against zeros for that query."""
    generator = torch.Generator().manual_seed(0)
    tokens, size = 8, 16
    visible = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    visible[0] = False  # a padded sequence has such a row
    visible = visible.to(setting.device)
    for dtype, name in ((torch.float32, "fp32"), (torch.float16, "fp16")):
        scores = torch.randn(tokens, tokens, generator=generator).to(setting.device, dtype)
        v = torch.randn(tokens, size, generator=generator).to(setting.device, dtype)

        def found(subject: str, weigh: Callable[[], Tensor], v: Tensor = v, name: str = name) -> Series:
            one = Series(CONSTANT, setting.device, subject, name, OFF_BY)
            try:
                row = (weigh() @ v)[0]
            except RuntimeError as error:
                return Series(*_key(one), missing=f"RuntimeError: {error}")
            return Series(*_key(one), values=(float(row.abs().max()),))

        yield found("with -1e9", lambda: masked_weights(scores, visible, -1e9))  # noqa: B023  # called in this round
        yield found("with -inf, blind rows zero", lambda: blind_rows_zeroed(scores, visible))  # noqa: B023  # likewise
        mean = v.mean(dim=0).abs().max()
        yield Series(CONSTANT, setting.device, "what the mean of v is", name, OFF_BY, (float(mean),))


def _key(series: Series) -> tuple[str, str, str, str, str]:
    return series.part, series.device, series.subject, series.case, series.quantity


# --- 2. It starts the clock before the warm-up has finished ---


@dataclass
class Queue:
    """A device that works through a queue: a call only queues work, and waiting takes until it is done."""

    work_ns: int
    launch_ns: int = 1_000
    now_ns: int = 0
    done_ns: int = 0

    def call(self) -> None:
        self.now_ns += self.launch_ns
        self.done_ns = max(self.done_ns, self.now_ns) + self.work_ns

    def synchronize(self) -> None:
        self.now_ns = max(self.now_ns, self.done_ns)

    def clock(self) -> Clock:
        return Clock(lambda: self.now_ns, self.synchronize)


def mean_after_warm_up(call: Callable[[], object], clock: Stopwatch, warmups: int, runs: int, *, wait: bool) -> float:
    """Warm up, then time the runs at one go: ns a call. Without the wait, the warm-up's own work is timed too."""
    for _ in range(warmups):
        call()
    if wait:
        clock.synchronize()
    start_ns = clock.now_ns()
    for _ in range(runs):
        call()
    clock.synchronize()
    return (clock.now_ns() - start_ns) / runs


def early_clock(setting: Setting) -> Iterator[Series]:
    """Time both ways: on a queue whose calls take 1 ms each, and on the GPU where there is one."""
    for wait, subject in WAYS:
        queue = Queue(work_ns=1_000_000)
        taken = mean_after_warm_up(queue.call, queue.clock(), WARMUPS, RUNS, wait=wait)
        yield Series(EARLY, setting.device, subject, "a queue of 1 ms calls", NS, (taken,))
    if setting.device != "cuda":
        return
    one = entry(EARLY, BY_HAND, setting.case("b8h8t1024d64-causal-fp16-fwd"), setting.subjects)
    try:
        work = ready(one, setting).work
    except Unmeasurable as reason:
        yield one.series(NS, missing=str(reason))
        return
    for wait, subject in WAYS:
        setting.clock.synchronize()
        taken = mean_after_warm_up(work, setting.clock, WARMUPS, RUNS, wait=wait)
        yield Series(EARLY, setting.device, subject, "by hand, b8h8t1024d64, FP16", NS, (taken,))


# --- 3. It takes a plain mean ---


def plain_mean(setting: Setting) -> Iterator[Series]:
    """Time 2000 runs one by one, and compare the statistics of every 50 with their median."""
    one = entry(MEAN, BY_HAND, setting.case("b1h8t128d64-causal-fp32-fwd"), setting.subjects)
    try:
        work = ready(one, setting).work
    except Unmeasurable as reason:
        yield one.series(SHARE, missing=str(reason))
        return
    with torch.no_grad():
        runs = protocol(work, setting.clock, WARMUPS, 40 * BLOCK, setting.budget_s)
    for subject, statistic in (("mean", fmean), ("mean without outliers", lambda b: fmean(without_outliers(b)))):
        yield Series(MEAN, setting.device, subject, str(one.case.shape), SHARE, to_the_median(runs, statistic))


def to_the_median(runs: Sequence[float], statistic: Callable[[Sequence[float]], float]) -> tuple[float, ...]:
    """Divide the statistic of every block of runs by the block's median; what is left over joins no block."""
    size = min(BLOCK, len(runs))
    blocks = [runs[i : i + size] for i in range(0, len(runs) - size + 1, size)]
    return tuple(statistic(block) / median(sorted(block)) for block in blocks)
