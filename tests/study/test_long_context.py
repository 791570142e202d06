"""Long context: measured by one call where the time allows, named where it does not."""

import pytest
import torch

from bench.study import long_context
from bench.study.results import PAIRED_NS, PEAK_BYTES, Results, Series
from bench.study.setting import Setting
from bench.study.subjects import Subjects
from bench.timing import clock


def setting(budget_s: float, *found: Series) -> Setting:
    return Setting("cpu", clock.Clock.of("cpu"), Subjects(), budget_s, Results(found))


@pytest.mark.parametrize("name", long_context.KERNELS)
def test_peak_grows_as_the_tokens_forward_and_backward(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = []
    for tokens in (1024, 4096):
        monkeypatch.setattr(long_context, "CASE", f"b1h1t{tokens}d32-causal-fp32-fwdbwd")
        (series,) = long_context.long_context(name, setting(1000.0))
        peaks.append(series.values[0])
    assert peaks[1] < 4.1 * peaks[0]
    assert peaks[1] < 4096**2 * torch.float32.itemsize / 4


def test_a_call_longer_than_the_time_there_is_is_named() -> None:
    timed = Series("directions", "cpu", "sdpa", "b1h8t512d64-causal-fp32-fwdbwd", PAIRED_NS, (1e8,))
    (series,) = long_context.long_context("sdpa", setting(1.0, timed))
    assert (series.quantity, series.values) == (PEAK_BYTES, ())
    assert series.missing == "about 26 s a call, too long for --time-limit"


def test_only_kernels_that_were_asked_for_have_a_part() -> None:
    assert [part.name for part in long_context.parts("cpu", Subjects({"sdpa"}))] == ["long context of sdpa"]
