"""Long context, which the write-ups leave out: 32,768 tokens, forward and backward, in memory that T^2 does not fit."""

from collections.abc import Iterator
from functools import partial

import torch

from ..checking.fingerprint import fingerprint
from .multi_head import peak_bytes
from .results import PEAK_BYTES, Series
from .setting import Part, Setting, entry, expectation_s, too_long
from .subjects import Subjects

TOKENS = 2**15
CASE = f"b1h1t{TOKENS}d32-causal-fp32-fwdbwd"
KERNELS = ("blockwise", "sdpa")  # without a score matrix, and not limited to a window
WEIGHT = 24  # one call of many seconds


def parts(device: str, subjects: Subjects) -> list[Part]:
    """Name a part for each kernel that was asked for."""
    asked = [name for name in KERNELS if name in subjects.kernels]
    return [Part(f"long context of {name}", device, WEIGHT, partial(long_context, name)) for name in asked]


def long_context(subject: str, setting: Setting) -> Iterator[Series]:
    """Measure the peak of one call, unless earlier parts say that it takes more than there is of time."""
    each = entry("long context", subject, setting.case(CASE), setting.subjects)
    expected_s = expectation_s(each, setting.found.series)
    if expected_s is not None and expected_s > setting.budget_s:
        yield each.series(PEAK_BYTES, missing=too_long(expected_s))
        return
    call = each.make()
    with torch.enable_grad():
        on_gpu = setting.device == "cuda"
        peak = peak_bytes(call, setting.device) if on_gpu else fingerprint(call).peak_bytes
    yield each.series(PEAK_BYTES, [float(peak)])
