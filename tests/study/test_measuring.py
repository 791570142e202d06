"""How the study measures, on a clock that only moves when work is done; and what cannot be measured is named."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from unittest.mock import Mock

import pytest
import torch

import attention
from bench.observing.fingerprint import fingerprint
from bench.study import measuring, tasks
from bench.study.measuring import Setting, Warm, peaks, protocol, rounds, time_rounds
from bench.study.parts import LONG_KERNELS
from bench.study.published import BY_HAND, FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, PYTORCH, TINY
from bench.study.results import Quantity, Results, Series
from bench.study.subjects import by_hand, call, case_of, study_data
from bench.suite.cases import Case
from bench.suite.workload import Call
from bench.timing.clock import Clock

MS = 1_000_000


class Time:
    """A clock that moves by what the work takes, and keeps what was worked on."""

    def __init__(self) -> None:
        self.now_ns, self.calls = 0, []  # type: int, list[str]

    def work(self, name: str, ns: int) -> Warm:
        def call() -> None:
            self.calls.append(name)
            self.now_ns += ns

        return Warm(call, ns)

    def clock(self) -> Clock:
        return Clock(lambda: self.now_ns, lambda: None)


def test_rounds_time_every_work_once_a_round_in_changing_order() -> None:
    time = Time()
    taken = rounds([time.work("a", 2 * MS), time.work("b", MS)], time.clock(), budget_s=0.0601)
    assert taken == [(2.0 * MS,) * 20, (1.0 * MS,) * 20]
    pairs = [tuple(time.calls[i : i + 2]) for i in range(0, 40, 2)]
    assert set(pairs) == {("a", "b"), ("b", "a")}
    assert rounds([], time.clock(), budget_s=1.0) == []


@pytest.mark.parametrize(
    ("ns", "budget_s", "taken", "calls"),
    [
        (100_000, 0.00151, 3, 15),  # short work is timed in bursts of half a millisecond
        (300 * MS, 1.0, 3, 3),  # a round that would overrun is not begun
        (3000 * MS, 1.0, 1, 1),  # one round is always taken
    ],
)
def test_rounds_are_as_many_as_fit_the_time(ns: int, budget_s: float, taken: int, calls: int) -> None:
    time = Time()
    assert rounds([time.work("a", ns)], time.clock(), budget_s) == [(float(ns),) * taken]
    assert len(time.calls) == calls


@pytest.mark.parametrize(
    ("ns", "repetitions", "runs", "calls"),
    [
        (10, {"warmups": 50, "runs": 500}, 500, 550),
        (100 * MS, {"warmups": 50, "runs": 500}, 8, 11),  # what fits a second
        (10, {"runs": 100, "calls": 500}, 100, 50_000),
        (MS, {"runs": 100, "calls": 500}, 3, 1500),  # as many repetitions as fit
        (2000 * MS, {"runs": 100}, 1, 1),  # one run is always taken
    ],
)
def test_the_study_s_protocol_is_cut_to_the_time(
    ns: int, repetitions: Mapping[str, int], runs: int, calls: int
) -> None:
    time = Time()
    assert protocol(time.work("a", ns).work, time.clock(), 1.0, **repetitions) == (float(ns),) * runs
    assert len(time.calls) == calls


@pytest.fixture
def place() -> Setting:
    return Setting("x", Clock.of("cpu"), 0.01, Results())


def of(subject: str, case: str = "b1h2t8d4-causal-fp32-fwd") -> Case:
    return case_of(subject, case, "cpu")


def test_what_a_kernel_does_not_support_or_fails_at_is_named_and_the_others_are_measured(
    place: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(case: Case) -> object:
        if case.subject == "masked":
            raise RuntimeError("no such backend\nand a long trace")
        return call(case)

    monkeypatch.setattr(measuring, "call", make)
    *missing, measured = time_rounds([of("manual"), of("masked"), of("sdpa")], place)
    assert [series.missing for series in missing] == [
        "manual does not support causal attention",
        "failed: RuntimeError: no such backend",
    ]
    assert not measured.missing
    assert len(measured.values) >= 1


def test_what_would_take_too_long_is_extrapolated_from_smaller_cases_and_not_started(place: Setting) -> None:
    small = Series("y", of(BY_HAND, "b1h1t128d64-full-fp32-fwd"), Quantity.PAIRED_NS, (1.0 * MS, 2.0 * MS))
    both = Series("y", of("sdpa", "b1h8t512d64-causal-fp32-fwdbwd"), Quantity.PAIRED_NS, (1e8,))
    module = Series("y", of(FUSED_SDPA), Quantity.PAIRED_NS, (1.0 * MS,))
    there = replace(place, found=Results((small, both, module)))
    (large,) = time_rounds([of(BY_HAND, "b1h1t1280d64-full-fp32-fwd")], there)
    assert large.missing == "about 0.1 s a call, too long for --time-limit"
    (other,) = time_rounds([of(BY_HAND, "b1h1t1280d64-full-bf16-fwd")], there)
    assert not other.missing  # another dtype says nothing
    (peak,) = peaks([of("sdpa", "b1h1t32768d32-causal-fp32-fwdbwd")], there)
    assert (peak.quantity, peak.values) == (Quantity.PEAK_BYTES, ())
    assert peak.missing == "about 26 s a call, too long for --time-limit"
    (peak,) = peaks([of(FUSED_SDPA, "b1h2t8000d4-causal-fp32-fwd")], there)  # a third of the small one is attention
    assert peak.missing == "about 334 s a call, too long for --time-limit"


def test_a_case_of_the_same_part_says_what_takes_too_long_too(place: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "warm_up", lambda _: (1, MS))
    first, second = time_rounds([of(BY_HAND, f"b1h1t{tokens}d8-full-fp32-fwd") for tokens in (16, 16 * 40)], place)
    assert first.values
    assert second.missing == "about 1.6 s a call, too long for --time-limit"


def test_what_does_not_fit_the_memory_is_named(place: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "available_bytes", lambda _: 1_000_000)
    (large,) = time_rounds([of(BY_HAND, "b1h8t1024d64-full-fp32-fwd")], place)
    assert large.missing == "needs about 0.134 GB, and 0.001 GB are free"


def test_a_fresh_process_times_its_first_calls_or_says_why_not(place: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PROCESSES", 1)
    short, long = (replace(place, budget_s=seconds) for seconds in (1.0, 100.0))
    for series in (taken := list(tasks.first_calls([of("sdpa")], long))):
        assert len([ns for ns in series.values if ns > 0]) == tasks.FIRST_CALLS
    assert len(taken) == 1
    (series,) = tasks.first_calls([of("sdpa")], short)
    assert series.missing == "a fresh process takes too long for --time-limit"
    (series,) = tasks.first_calls([of("manual")], long)
    assert series.missing == "manual does not support causal attention"


def test_accuracy_is_told_from_pytorch_and_from_the_oracle_and_a_kernel_that_cannot_is_named(
    place: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_pytorch_wrong(case: Case, seed: int = 0) -> Call:
        made = call(case, seed)
        return replace(made, forward=lambda: made.forward() + 1) if case.subject == PYTORCH else made

    monkeypatch.setattr(tasks, "call", with_pytorch_wrong)
    monkeypatch.setattr(tasks, "DRAWS", 3)
    found = Results(tuple(tasks.accuracy([of(s, TINY) for s in (BY_HAND, PYTORCH, "manual", "sdpa")], place)))
    one = pytest.approx((1.0,) * 3, abs=1e-5)
    zero = pytest.approx((0.0,) * 3, abs=1e-5)
    told = {(s.subject, s.quantity): s.values for s in found.series if s.values}
    assert told == {
        (BY_HAND, Quantity.ERROR): zero,
        (PYTORCH, Quantity.ERROR): one,
        ("sdpa", Quantity.ERROR): zero,
        (BY_HAND, Quantity.MEAN_DIFFERENCE): one,
        ("sdpa", Quantity.MEAN_DIFFERENCE): one,
        (BY_HAND, Quantity.DIFFERENCE): one,
        (BY_HAND, Quantity.CLOSE): (0.0,) * 3,
    }
    (manual,) = found.where(subject="manual")
    assert manual.missing == "manual does not support causal attention"


@pytest.mark.parametrize("name", LONG_KERNELS)
def test_the_peak_of_long_context_grows_as_the_tokens_forward_and_backward(place: Setting, name: str) -> None:
    cases = [of(name, f"b1h1t{tokens}d32-causal-fp32-fwdbwd") for tokens in (1024, 4096)]
    short, long = (series.values[0] for series in peaks(cases, place))
    assert long < 4.1 * short
    assert long < 4096**2 * torch.float32.itemsize / 4


def test_the_peak_of_compiled_code_is_that_of_its_buffers_once_it_is_compiled_anew(
    place: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = torch.compile(lambda x: (x * 2).sin() + 1, fullgraph=True, backend="eager", dynamic=False)
    x, watched = torch.zeros(1000), Mock(side_effect=fingerprint)
    compiled(x)
    monkeypatch.setattr(measuring, "call", lambda _: partial(compiled, x))
    monkeypatch.setattr(measuring, "fingerprint", watched)
    (series,) = peaks([of("sdpa")], place)
    assert series.values[0] >= x.nbytes
    assert watched.call_args.kwargs["compiled"].graphs == 1


def test_the_five_steps_are_attention_in_three_and_in_four_dimensions() -> None:
    q, k, v = study_data(0, "cpu")
    with_head = [t.unsqueeze(1) for t in (q, k, v)]
    exact = attention.reference(*with_head, causal=True)
    torch.testing.assert_close(by_hand(q, k, v, mask=None, causal=True), exact.squeeze(1).float())
    torch.testing.assert_close(by_hand(*with_head, mask=None, causal=True), exact.float())


def outs(subjects: tuple[str, ...], case: str) -> list[torch.Tensor]:
    return [call(of(subject, case)).forward() for subject in subjects]


def test_every_kernel_and_every_form_of_multi_head_attention_gets_the_same_inputs() -> None:
    for case in ("b1h2t8d4-full-fp32-fwd", "b4h1t8d10-full-fp32-fwd"):
        theirs, *ours = outs((PYTORCH, BY_HAND, "manual", "masked", "sdpa"), case)
        for out in ours:
            torch.testing.assert_close(out.view(theirs.shape), theirs, atol=1e-5, rtol=1e-5)
    sdpa, *others = outs((FUSED_SDPA, FUSED_BY_HAND, LOOP_SDPA), "b2h4t8d4-causal-fp32-fwd")
    for out in others:
        torch.testing.assert_close(out, sdpa)
