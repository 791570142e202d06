"""The formulas of work against counting it, and achieved speed against a ceiling."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import attention
from bench.judging.roofline import Achieved, achieved, summary
from bench.plain.execution import Ceiling, Cost
from bench.suite.cases import DTYPES, Case, Shape
from bench.suite.ceiling import ceilings
from bench.suite.cost import cost_of, visible_pairs
from bench.suite.side import Side
from bench.suite.workload import bind, build, parameter_sizes
from bench.timing.clock import Clock

HEAD = Side.of("head", attention)


def case(subject: str, shape: str, mask: str = "full", dtype: str = "fp32", direction: str = "fwd") -> Case:
    return Case(subject, subject in HEAD.modules, Shape.parse(shape), mask, dtype, "cpu", direction)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 5), (1, 9), (3, 8)])
def test_visible_pairs_are_those_of_the_causal_mask(queries: int, keys: int) -> None:
    mask = attention.shapes.causal_mask(queries, keys, torch.device("cpu"))
    assert visible_pairs(queries, keys, causal=True) == int(mask.sum())
    assert visible_pairs(queries, keys, causal=False) == mask.numel()


@pytest.mark.parametrize(
    ("subject", "shape"),
    [
        ("manual", "b2h4t16d8"),
        ("manual", "b2h4kv2t16k24d8"),
        ("mha", "b2h4t16d8"),
        ("mha", "b2h4kv2t16d8"),
        ("mhaloop", "b2h4t16d8"),
        ("manual", "b2h4kv2t16k24d8v12"),
        ("block", "b2h4kv2t16d8"),
    ],
)
def test_forward_operations_are_those_that_torch_counts(subject: str, shape: str) -> None:
    counted = case(subject, shape)
    workload = build(counted, parameter_sizes(counted, HEAD))
    call = bind(workload, HEAD)
    with (
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
        torch.nn.attention.sdpa_kernel(
            torch.nn.attention.SDPBackend.MATH  # the counter does not know the fused CPU op
        ),
    ):
        call()
    assert cost_of(counted, workload.d_feedforward).flops == counter.get_total_flops()


def test_the_backward_pass_has_five_products_to_two_and_a_projection_two_to_one() -> None:
    kernel, module = (case(name, "b2h4t16d8") for name in ("sdpa", "mha"))
    attention_flops = cost_of(kernel).flops
    projections = cost_of(module).flops - attention_flops
    assert cost_of(case("sdpa", "b2h4t16d8", direction="fwdbwd")).flops == 3.5 * attention_flops
    assert cost_of(case("mha", "b2h4t16d8", direction="fwdbwd")).flops == 3.5 * attention_flops + 3 * projections
    narrow = case("sdpa", "b2h4t16d8v4", direction="fwdbwd")  # D = 2 Dv: 4 products of D and 3 of Dv are 11 of Dv
    assert cost_of(narrow).flops == 11 * attention_flops // 4


def test_causal_counts_the_pairs_seen_and_masks_given_as_tensors_count_full() -> None:
    full = cost_of(case("sdpa", "b1h1t4d8")).flops
    assert cost_of(case("sdpa", "b1h1t4d8", "causal")).flops == full * 10 // 16
    assert cost_of(case("sdpa", "b1h1t4d8", "boolmask")).flops == full


@pytest.mark.parametrize("direction", ["fwd", "fwdbwd"])
@pytest.mark.parametrize("mask", ["full", "causal", "boolmask", "floatmask", "learnedmask"])
@pytest.mark.parametrize("subject", ["sdpa", "mha", "block"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_bytes_are_every_tensor_of_the_call_once(subject: str, dtype: str, mask: str, direction: str) -> None:
    counted = case(subject, "b2h4kv2t16d8", mask, dtype, direction)
    workload = build(counted, parameter_sizes(counted, HEAD))
    tensors = [*workload.inputs.values(), workload.upstream]  # the output is as large as the gradient that comes in
    once = sum(t.numel() for t in tensors) * DTYPES[dtype].itemsize
    expected = once * (2 if counted.backward else 1) + (0 if workload.mask is None else workload.mask.nbytes)
    expected += sum(t.nbytes for t in workload.frozen.values())
    assert cost_of(counted, workload.d_feedforward).moved_bytes == expected


WORK = Cost(2_000_000, 1_000_000, "fp32", "cpu")


def ceiling(gflops: float, gbytes: float, dtype: str = "fp32") -> Ceiling:
    return Ceiling(dtype, "cpu", 1, gflops * 1e9, gbytes * 1e9)


@pytest.mark.parametrize(
    ("limit", "share", "bound"),
    [
        (ceiling(100, 1000), 0.025, "flops"),
        (ceiling(1000, 10), 0.125, "bytes"),
        (ceiling(9, 9, "bf16"), None, None),
        (ceiling(9, 9, "int8"), None, None),
    ],
)
def test_the_share_is_the_time_of_the_tighter_bound_over_the_time_taken(
    limit: Ceiling, share: float | None, bound: str | None
) -> None:
    speed = achieved(WORK, 800_000.0, [limit])
    assert speed == Achieved(2.5, 1.25, share, bound)


def test_what_was_not_timed_achieved_nothing() -> None:
    assert achieved(WORK, None, []) is None
    assert achieved(None, 1.0, []) is None


def test_the_line_of_a_report_states_the_ceilings_and_the_share_of_the_median_case() -> None:
    timed = [(WORK, ns) for ns in (1e6, 2e6, 4e6)]
    of_another_dtype = (Cost(1, 1, "bf16", "cpu"), 1e6)
    assert summary([*timed, (None, None), of_another_dtype], [ceiling(100.5, 10.25)]) == (
        "ceiling, measured: cpu fp32 100.5 GFLOP/s 10.25 GB/s; the median case reached 5% of its own"
    )
    assert summary([(None, None)], []) is None


def test_the_ceiling_is_measured_once_a_dtype_and_by_the_fastest_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.suite.ceiling.SECONDS", 0.0)
    monkeypatch.setattr("bench.suite.ceiling.MATRIX_SIZE", {"cpu": 10})
    monkeypatch.setattr("bench.suite.ceiling.COPY_BYTES", {"cpu": 4000})
    # In microseconds: the product of fp32, its copy, the product of bf16, its copy.
    durations = iter([1, 2, 4, 1])
    now = iter([t for d in durations for t in (0, 1000 * d)])
    works = [WORK, WORK, Cost(1, 1, "bf16", "cpu")]
    fp32, bf16 = ceilings(works, lambda _: Clock(lambda: next(now), lambda: None))
    assert (fp32.dtype, bf16.dtype, fp32.threads) == ("fp32", "bf16", torch.get_num_threads())
    assert fp32.flops_per_s == bf16.flops_per_s == pytest.approx(2 * 10**3 / 1e-6)  # emulated bf16 is no ceiling
    assert fp32.bytes_per_s == pytest.approx(2 * 4000 / 2e-6)
    assert bf16.bytes_per_s == pytest.approx(2 * 4000 / 1e-6)
