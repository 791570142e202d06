"""How the study measures, on a clock that only moves when work is done; and what cannot be measured is named."""

from dataclasses import replace
from functools import partial

import pytest
import torch

import attention
from bench.study import measuring, tasks
from bench.study.measuring import Setting, Warm, peaks, protocol, rounds, time_rounds
from bench.study.parts import LONG_KERNELS
from bench.study.published import BY_HAND, FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, PYTORCH, TINY
from bench.study.results import Quantity, Results, Series
from bench.study.subjects import by_hand, call, case_of, study_data
from bench.suite.cases import Case
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


def test_short_work_is_timed_in_bursts_of_half_a_millisecond() -> None:
    time = Time()
    assert rounds([time.work("short", 100_000)], time.clock(), 0.00151) == [(100_000.0,) * 3]
    assert len(time.calls) == 15


def test_rounds_stop_before_one_that_would_overrun_but_one_is_always_taken() -> None:
    time = Time()
    assert len(rounds([time.work("long", 300 * MS)], time.clock(), budget_s=1.0)[0]) == 3
    assert len(rounds([time.work("long", 3000 * MS)], time.clock(), budget_s=1.0)[0]) == 1
    assert rounds([], time.clock(), budget_s=1.0) == []


def test_the_study_s_protocol_warms_up_50_times_and_times_500_runs_one_by_one() -> None:
    time = Time()
    assert protocol(time.work("a", 10).work, time.clock(), 1.0, warmups=50, runs=500) == (10.0,) * 500
    assert len(time.calls) == 550
    slow = protocol(time.work("long", 100 * MS).work, time.clock(), 1.0, warmups=50, runs=500)
    assert 5 < len(slow) < 12  # what fits a second


def test_repetitions_are_all_made_where_they_fit_and_cut_where_they_do_not() -> None:
    time = Time()
    assert len(protocol(time.work("a", 10).work, time.clock(), 1.0, runs=100, calls=500)) == 100
    assert len(time.calls) == 50_000
    assert len(protocol(time.work("slow", MS).work, time.clock(), 1.0, runs=100, calls=500)) == 3
    assert len(protocol(time.work("endless", 2000 * MS).work, time.clock(), 1.0, runs=100)) == 1


@pytest.fixture
def place() -> Setting:
    return Setting("x", Clock.of("cpu"), 0.01, Results())


def of(subject: str, case: str = "b1h2t8d4-causal-fp32-fwd") -> Case:
    return case_of(subject, case, "cpu")


def test_what_a_kernel_does_not_support_is_named_and_the_others_are_measured(place: Setting) -> None:
    taken = time_rounds([of("manual"), of("sdpa")], place)
    assert taken[0].missing == "manual does not support causal attention"
    assert not taken[1].missing
    assert len(taken[1].values) >= 1


def test_what_fails_is_named_with_its_error(place: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(_: object) -> None:
        raise RuntimeError("no such backend\nand a long trace")

    monkeypatch.setattr(measuring, "call", make)
    assert time_rounds([of("sdpa")], place)[0].missing == "failed: RuntimeError: no such backend"


def test_what_would_take_too_long_is_extrapolated_from_smaller_cases_and_not_started(place: Setting) -> None:
    small = Series("x", of(BY_HAND, "b1h1t128d64-full-fp32-fwd"), Quantity.PAIRED_NS, (1.0 * MS, 2.0 * MS))
    there = replace(place, found=Results((small,)))
    (large,) = time_rounds([of(BY_HAND, "b1h1t1280d64-full-fp32-fwd")], there)
    assert large.missing == "about 0.1 s a call, too long for --time-limit"
    (other,) = time_rounds([of(BY_HAND, "b1h1t1280d64-full-bf16-fwd")], there)
    assert not other.missing  # another dtype says nothing


def test_a_case_of_the_same_part_says_what_takes_too_long_too(place: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "warm_up", lambda _: (1, MS))
    cases = [f"b1h1t{tokens}d8-full-fp32-fwd" for tokens in (16, 16 * 40)]
    first, second = time_rounds([of(BY_HAND, case) for case in cases], place)
    assert first.values
    assert second.missing == "about 1.6 s a call, too long for --time-limit"


def test_what_does_not_fit_the_memory_is_named(place: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "available_bytes", lambda _: 1_000_000)
    (large,) = time_rounds([of(BY_HAND, "b1h8t1024d64-full-fp32-fwd")], place)
    assert large.missing == "needs about 0.134 GB, and 0.001 GB are free"


def test_a_fresh_process_times_its_first_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PROCESSES", 1)
    (series,) = tasks.first_calls([of("sdpa")], Setting("x", Clock.of("cpu"), 100.0, Results()))
    assert len([ns for ns in series.values if ns > 0]) == tasks.FIRST_CALLS


@pytest.mark.parametrize(
    ("subject", "budget_s", "reason"),
    [
        ("sdpa", 1.0, "a fresh process takes too long for --time-limit"),
        ("manual", 100.0, "manual does not support causal attention"),
    ],
)
def test_a_fresh_process_that_is_not_timed_is_named_once(subject: str, budget_s: float, reason: str) -> None:
    (series,) = tasks.first_calls([of(subject)], Setting("x", Clock.of("cpu"), budget_s, Results()))
    assert series.missing == reason


def test_accuracy_of_by_hand_is_told_in_full_and_a_kernel_that_cannot_is_named(
    place: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "DRAWS", 3)
    found = Results(tuple(tasks.accuracy([of(s, TINY) for s in (BY_HAND, PYTORCH, "manual", "sdpa")], place)))
    assert {s.quantity for s in found.where(subject=BY_HAND)} == {
        Quantity.ERROR,
        Quantity.DIFFERENCE,
        Quantity.MEAN_DIFFERENCE,
        Quantity.CLOSE,
    }
    assert [len(s.values) for s in found.where(subject="sdpa")] == [3, 3]
    assert max(found.values(subject="sdpa", quantity=Quantity.ERROR)) < 1e-5
    (manual,) = found.where(subject="manual")
    assert manual.missing == "manual does not support causal attention"


@pytest.mark.parametrize("name", LONG_KERNELS)
def test_the_peak_of_long_context_grows_as_the_tokens_forward_and_backward(name: str) -> None:
    setting = Setting("x", Clock.of("cpu"), 1000.0, Results())
    short, long = (
        peaks([of(name, f"b1h1t{tokens}d32-causal-fp32-fwdbwd")], setting)[0].values[0] for tokens in (1024, 4096)
    )
    assert long < 4.1 * short
    assert long < 4096**2 * torch.float32.itemsize / 4


def test_a_call_of_long_context_longer_than_the_time_there_is_is_named(place: Setting) -> None:
    timed = Series("directions", of("sdpa", "b1h8t512d64-causal-fp32-fwdbwd"), Quantity.PAIRED_NS, (1e8,))
    there = replace(place, budget_s=1.0, found=Results((timed,)))
    (series,) = peaks([of("sdpa", "b1h1t32768d32-causal-fp32-fwdbwd")], there)
    assert (series.quantity, series.values) == (Quantity.PEAK_BYTES, ())
    assert series.missing == "about 26 s a call, too long for --time-limit"


def test_the_peak_of_compiled_code_is_that_of_its_buffers(place: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = torch.compile(lambda x: (x * 2).sin() + 1, fullgraph=True, backend="eager", dynamic=False)
    x = torch.zeros(1000)
    monkeypatch.setattr(measuring, "call", lambda _: partial(compiled, x))
    (series,) = peaks([of("sdpa")], place)
    assert series.values[0] >= x.nbytes


def test_the_five_steps_are_attention_in_three_and_in_four_dimensions() -> None:
    q, k, v = study_data(0, "cpu")
    with_head = [t.unsqueeze(1) for t in (q, k, v)]
    exact = attention.reference(*with_head, causal=True)
    torch.testing.assert_close(by_hand(q, k, v, mask=None, causal=True), exact.squeeze(1).float())
    torch.testing.assert_close(by_hand(*with_head, mask=None, causal=True), exact.float())


@pytest.mark.parametrize("case", ["b1h2t8d4-full-fp32-fwd", "b4h1t8d10-full-fp32-fwd"])
@pytest.mark.parametrize("subject", [BY_HAND, "manual", "masked", "sdpa"])
def test_every_kernel_gets_the_same_inputs(subject: str, case: str) -> None:
    out, theirs = (call(case_of(name, case, "cpu")).forward() for name in (subject, PYTORCH))
    torch.testing.assert_close(out.view(theirs.shape), theirs, atol=1e-5, rtol=1e-5)


def test_the_three_forms_of_multi_head_attention_agree() -> None:
    forms = (FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA)
    outs = [call(case_of(form, "b2h4t8d4-causal-fp32-fwd", "cpu")).forward() for form in forms]
    torch.testing.assert_close(outs[0], outs[1])
    torch.testing.assert_close(outs[2], outs[1])
