"""How time is taken, on a clock that only moves when work is done; and what is too long or cannot be done is named."""

from dataclasses import replace

import pytest
import torch

import attention
from bench.study import setting as setting_module
from bench.study.published import BY_HAND, FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, PYTORCH
from bench.study.results import PAIRED_NS, Results, Series
from bench.study.sampling import Warm, protocol, repeated, rounds, warm_up
from bench.study.setting import Entry, Setting, entry, time_rounds
from bench.study.subjects import Subjects, by_hand, flops, parse, study_data
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
    taken = rounds([time.work("a", 2 * MS), time.work("b", MS)], time.clock(), budget_s=1.0, most=20)
    assert taken == [(2.0 * MS,) * 20, (1.0 * MS,) * 20]
    pairs = [tuple(time.calls[i : i + 2]) for i in range(0, 40, 2)]
    assert set(pairs) == {("a", "b"), ("b", "a")}


def test_short_work_is_timed_in_bursts_of_half_a_millisecond() -> None:
    time = Time()
    assert rounds([time.work("short", 100_000)], time.clock(), 1.0, most=3) == [(100_000.0,) * 3]
    assert len(time.calls) == 15


def test_rounds_stop_before_one_that_would_overrun_but_one_is_always_taken() -> None:
    time = Time()
    assert len(rounds([time.work("long", 300 * MS)], time.clock(), budget_s=1.0)[0]) == 3
    assert len(rounds([time.work("long", 3000 * MS)], time.clock(), budget_s=1.0)[0]) == 1
    assert rounds([], time.clock(), budget_s=1.0) == []


def test_warming_up_ends_when_calls_get_no_faster_or_take_too_long() -> None:
    time, times = Time(), iter((90 * MS, 9 * MS, 5 * MS, 3 * MS, 3 * MS, MS))

    def getting_faster() -> None:
        time.now_ns += next(times)

    assert warm_up(getting_faster, time.clock(), 1.0).fastest_ns == 3 * MS
    slow = time.work("slow", 3000 * MS)
    warm_up(slow.work, time.clock(), budget_s=1.0)
    assert time.calls == ["slow", "slow"]  # the first may compile or load, and is not timed


def test_the_study_s_protocol_warms_up_50_times_and_times_500_runs_one_by_one() -> None:
    time = Time()
    assert protocol(time.work("a", 10).work, time.clock(), 50, 500, 1.0) == (10.0,) * 500
    assert len(time.calls) == 550
    assert len(protocol(time.work("long", 100 * MS).work, time.clock(), 50, 500, 1.0)) < 12  # what fits a second


def test_repetitions_are_all_made_where_they_fit_and_cut_where_they_do_not() -> None:
    time = Time()
    assert len(repeated(time.work("a", 10).work, time.clock(), 50_000, 1.0)) == 100
    assert len(time.calls) == 50_000
    assert len(repeated(time.work("slow", MS).work, time.clock(), 50_000, budget_s=1.0)) == 3  # parts of 500 calls
    assert len(repeated(time.work("few", 10).work, time.clock(), 7, 1.0)) == 7


@pytest.fixture
def place() -> Setting:
    return Setting("cpu", Clock.of("cpu"), Subjects(), budget_s=0.01)


def missing(series: list[Series]) -> list[str | None]:
    return [s.missing for s in series]


def test_what_a_kernel_does_not_support_is_named_and_the_others_are_measured(place: Setting) -> None:
    case = place.case("b1h2t8d4-causal-fp32-fwd")
    taken = time_rounds([entry("x", name, case, place.subjects) for name in ("manual", "sdpa")], place)
    assert taken[0].missing == "manual does not support causal attention"
    assert taken[1].missing is None
    assert len(taken[1].values) >= 1


def test_what_fails_is_named_with_its_error(place: Setting) -> None:
    def make() -> None:
        raise RuntimeError("no such backend\nand a long trace")

    failing = Entry("x", "bad", place.case("b1h2t8d4-full-fp32-fwd"), make)  # type: ignore[arg-type]  # it never returns
    assert missing(time_rounds([failing], place)) == ["failed: RuntimeError: no such backend"]


def test_what_would_take_too_long_is_extrapolated_from_smaller_cases_and_not_started(place: Setting) -> None:
    small = Series("x", "cpu", BY_HAND, "b1h1t128d64-full-fp32-fwd", PAIRED_NS, (1.0 * MS, 2.0 * MS))
    there = replace(place, found=Results((small,)))
    large = entry("x", BY_HAND, place.case("b1h1t1280d64-full-fp32-fwd"), place.subjects)
    assert missing(time_rounds([large], there)) == ["about 0.1 s a call, too long for --time-limit"]
    other = entry("x", BY_HAND, place.case("b1h1t1280d64-full-bf16-fwd"), place.subjects)
    assert missing(time_rounds([other], there)) == [None]  # another dtype says nothing


def test_what_does_not_fit_the_memory_is_named(place: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting_module, "available_bytes", lambda _: 1_000_000)
    large = entry("x", BY_HAND, place.case("b1h8t1024d64-full-fp32-fwd"), place.subjects)
    assert missing(time_rounds([large], place)) == ["needs about 0.134 GB, and 0.001 GB are free"]


def test_the_five_steps_are_attention_in_three_and_in_four_dimensions() -> None:
    q, k, v = study_data(0, "cpu")
    with_head = [t.unsqueeze(1) for t in (q, k, v)]
    exact = attention.reference(*with_head, causal=True)
    torch.testing.assert_close(by_hand(q, k, v, mask=None, causal=True), exact.squeeze(1).float())
    torch.testing.assert_close(by_hand(*with_head, mask=None, causal=True), exact.float())


@pytest.mark.parametrize("subject", [BY_HAND, "manual", "masked", "sdpa"])
def test_every_kernel_gets_the_same_inputs(subject: str) -> None:
    case = parse("b1h2t8d4-full-fp32-fwd", "cpu")
    torch.testing.assert_close(
        Subjects().call(subject, case).forward(), Subjects().call(PYTORCH, case).forward(), atol=1e-5, rtol=1e-5
    )


def test_the_three_forms_of_multi_head_attention_agree() -> None:
    case = parse("b2h4t8d4-causal-fp32-fwd", "cpu", module=True)
    outs = [Subjects().call(form, case).forward() for form in (FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA)]
    torch.testing.assert_close(outs[0], outs[1])
    torch.testing.assert_close(outs[2], outs[1])


def test_operations_of_a_module_count_its_projections() -> None:
    kernel, module = (parse("b1h2t8d4-full-fp32-fwd", "cpu", module=m) for m in (False, True))
    assert flops(kernel) == 2 * (2 * 2 * 8 * 8 * 4)  # two products of 2 heads, 8 x 8 scores, size 4
    assert flops(module) - flops(kernel) == 4 * (2 * 8 * 8 * 8)  # four projections of 8 tokens, 8 x 8
