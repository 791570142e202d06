"""TFLOP/s of both sides on a GPU, as a share of the measured peak, beside published figures."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..judging.roofline import achieved
from ..judging.verdict import CaseResult
from ..plain.execution import Ceiling

COLUMNS = ("case", "base, TFLOP/s", "head, TFLOP/s", "of the measured peak", "published")
# The best that authors of kernels have published: forward, 16,384 tokens, head size 128. Each names its GPU, since the
# one at hand may be another.
PUBLISHED = {
    "full": "H100: FlashAttention-2 370, cuDNN 595, FlashAttention-3 648 (fp16); B200: FlashAttention-4 1605 (bf16)",
    "causal": "H100: FlashAttention-2 335, cuDNN 539, FlashAttention-3 616 (fp16)",
}
_COMPARABLE = re.compile(r"-b\d+h\d+t16384d128-(full|causal)-(?:bf16|fp16)-cuda-fwd$")


@dataclass(frozen=True)
class Rate:
    """What one case of a GPU reached; ``share`` is None where no ceiling was measured."""

    case_id: str
    base_tflops: float
    head_tflops: float
    share: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        """Write a row in the order of ``COLUMNS``."""
        published = _COMPARABLE.search(self.case_id)
        return (
            self.case_id,
            f"{self.base_tflops:.3g}",
            f"{self.head_tflops:.3g}",
            "-" if self.share is None else f"{self.share:.0%}",
            "-" if published is None else PUBLISHED[published[1]],
        )


def rates(cases: Iterable[CaseResult], ceilings: Sequence[Ceiling]) -> tuple[Rate, ...]:
    """Return what the cases reached that were timed on a GPU, and that operations and not bytes limit; best first."""
    found = []
    for case in cases:
        work, head_ns = case.work, case.head_by_ratio_ns
        if work is None or work.device != "cuda" or case.base_ns is None or head_ns is None:
            continue
        speed = achieved(work, head_ns, ceilings)
        if speed is not None and speed.bound != "bytes":
            found.append(Rate(case.id, work.flops / case.base_ns / 1e3, speed.gflops_per_s / 1e3, speed.share))
    return tuple(sorted(found, key=lambda rate: -rate.head_tflops))
