"""The error rule: budgets, caps, finiteness, drift against the base, and messages."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import attention
from bench.observing import drift
from bench.plain.evidence import TensorError
from bench.suite.cases import DTYPES, Case, Shape
from bench.suite.oracle import oracle, yardstick
from bench.suite.side import Side
from bench.suite.workload import Workload, bind, build, parameter_sizes

HEAD = Side.of("head", attention)
SHAPE = Shape.parse("b2h4kv2t12d8")


def case(subject: str = "masked", *, mask: str = "causal", dtype: str = "fp32", direction: str = "fwdbwd") -> Case:
    return Case(subject, subject.startswith("mha"), SHAPE, mask, dtype, "cpu", direction)


def judged(case: Case, change: Callable[[str, Tensor], Tensor]) -> dict[str, TensorError]:
    """Judge the head's results after a change to each of them."""
    work = work_of(case)
    changed = {name: change(name, tensor.clone()) for name, tensor in bind(work, HEAD).results().items()}
    return {error.name: error for error in drift.hold_to_budget(changed, oracle(work), yardstick(work))}


def work_of(case: Case, attempt: int = 0) -> Workload:
    return build(case, parameter_sizes(case, HEAD), attempt)


def filled(value: float, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {"out": torch.full((4,), value, dtype=dtype)}


NOTHING = filled(0.0, torch.float64)  # what is right of results near zero


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrong", ["out", "dq", "dk", "dv"])
def test_a_result_off_by_a_few_percent_is_over_budget(wrong: str, dtype: str) -> None:
    errors = judged(case(dtype=dtype), lambda name, t: t * 1.05 if name == wrong else t)
    assert {name for name, error in errors.items() if error.complaints} == {wrong}


def test_a_gradient_has_a_wider_budget_than_the_output() -> None:
    low = case(dtype="bf16")
    error = judged(low, lambda _, t: t)
    highest = {name: float(t.abs().max()) for name, t in oracle(work_of(low)).items()}
    slack = {name: drift.ULPS * drift.ulp(value, torch.bfloat16) for name, value in highest.items()}
    assert error["dq"].budget == pytest.approx(3 * error["dq"].naive + slack["dq"])
    assert error["out"].budget == pytest.approx(min(2 * error["out"].naive + slack["out"], 4e-2 * highest["out"]))


@pytest.mark.parametrize(("name", "noise"), [("out", 12), ("dv", 16)])
def test_a_naive_error_counts_as_the_noise_of_float32_at_least(name: str, noise: float) -> None:
    exact = {"out": torch.ones(1, 1, 256, 8, dtype=torch.float64), "dv": torch.ones(1, 1, 4, 8, dtype=torch.float64)}
    naive = {each: t.float() for each, t in exact.items()}

    def complaints(off: float, base: float | None = None) -> tuple[str, ...]:
        head = {each: t + (off if each == name else 0.0) for each, t in naive.items()}
        own = None if base is None else {each: t + (base if each == name else 0.0) for each, t in naive.items()}
        (found,) = (e for e in drift.hold_to_budget(head, exact, naive, own) if e.name == name)
        return found.complaints

    ulp, factor = drift.ulp(1.0, torch.float32), 2 if name == "out" else 3
    assert not complaints((factor * noise - 1) * ulp)
    assert complaints((factor * noise + 4) * ulp)
    assert not complaints((2 * noise - 1) * ulp, base=0.0)


def test_the_absolute_cap_holds_even_where_the_yardstick_is_bad() -> None:
    (error,) = drift.hold_to_budget(filled(2e-5), NOTHING, filled(1.0))
    assert error.budget == 1e-5
    assert "over its budget 1e-05" in error.complaints[0]


def test_a_value_that_is_not_finite_is_named_whatever_its_size() -> None:
    def poison(name: str, tensor: Tensor) -> Tensor:
        if name == "out":
            tensor[1, 2, 3, 4] = torch.nan
        return tensor

    (complaint,) = judged(case(), poison)["out"].complaints
    assert complaint.startswith("out: not finite where the oracle is: 1 value; worst at (1, 2, 3, 4): got nan")


def test_a_message_gives_both_errors_the_budget_the_worst_index_and_the_values_there() -> None:
    exact = {"out": torch.tensor([[1.0, 2.0]], dtype=torch.float64)}
    (error,) = drift.hold_to_budget({"out": torch.tensor([[1.0, 2.5]])}, exact, {"out": torch.tensor([[1.0, 2.0]])})
    assert error.complaints == (
        "out: error 0.5 is over its budget 6.2e-06 (naive error 0); worst at (0, 1): got 2.5, oracle 2",
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_result_off_everywhere_by_one_percent_is_over_budget_in_every_dtype(dtype: str) -> None:
    wide = Case("masked", False, Shape.parse("b1h4t64d32"), "causal", dtype, "cpu", "fwd")
    (complaint,) = judged(wide, lambda _, t: t * 1.01)["out"].complaints
    assert complaint.startswith("out: RMS error " if dtype == "bf16" else "out: error ")


def test_drift_from_the_base_inside_the_budget_is_reported_as_drift() -> None:
    (error,) = drift.hold_to_budget(filled(3e-6), NOTHING, filled(4e-6), filled(1e-6))
    assert error.head < error.budget
    assert error.bit_equal is False
    assert "more than 2x the base's 1e-06, though inside its budget" in error.complaints[0]
    (error,) = drift.hold_to_budget(filled(1.9e-6), NOTHING, filled(4e-6), filled(1e-6))
    assert error.complaints == ()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_base_that_is_not_finite_where_it_should_be_limits_no_head_that_mends_it(value: float) -> None:
    base = filled(1e-6)
    base["out"][-1] = value
    (error,) = drift.hold_to_budget(filled(3e-6), NOTHING, filled(4e-6), base)
    assert error.complaints == ()
    assert error.bit_equal is False


def test_a_gradient_of_few_values_is_held_to_the_rounding_of_its_sums_where_the_yardstick_is_exact_by_chance() -> None:
    exact = {
        "out": torch.zeros(1, 4, 256, 8, dtype=torch.float64),
        "dsinks": torch.full((4,), 0.5, dtype=torch.float64),
    }
    naive = {"out": torch.zeros(1, 4, 256, 8), "dsinks": torch.full((4,), 0.5)}

    def complaints(off: float) -> tuple[str, ...]:
        head = {"out": naive["out"], "dsinks": naive["dsinks"] + off}
        return drift.hold_to_budget(head, exact, naive)[1].complaints

    assert complaints(16 * 5e-8) == ()  # the root of 256 terms, in ulp
    assert complaints(1e-4)


def test_a_result_off_everywhere_by_one_percent_drifts_from_the_base_where_the_yardstick_would_let_it_pass() -> None:
    multi_head = Case("mha", True, Shape.parse("b1h4t128d32"), "causal", "bf16", "cpu", "fwd")
    work = work_of(multi_head)
    exact, naive, base = oracle(work), yardstick(work), bind(work, HEAD).results()
    head = {"out": base["out"] * 1.01}
    (alone,) = drift.hold_to_budget(head, exact, naive)
    assert alone.complaints == ()
    (beside_the_base,) = drift.hold_to_budget(head, exact, naive, base)
    assert beside_the_base.complaints[0].startswith("out: RMS error ")
    assert "more than 2x the base's" in beside_the_base.complaints[0]


def test_drift_from_the_errors_that_the_baseline_stored_is_reported_as_drift() -> None:
    head = filled(3e-6)
    (error,) = drift.hold_to_budget(head, NOTHING, filled(4e-6), head, stored={"out": 1e-6})
    assert error.complaints[0].startswith("out: error 3e-06 is more than 2x the 1e-06 that the baseline stored; worst")
    (error,) = drift.hold_to_budget(head, NOTHING, filled(4e-6), head, stored={"out": 1.6e-6})
    assert error.complaints == ()


def test_the_share_of_the_budget_is_what_an_error_uses_of_it() -> None:
    assert TensorError("out", 3e-7, 2e-7, 6e-7).share == pytest.approx(0.5)
    assert TensorError("out", 0.0, 0.0, 0.0).share == 0.0
    assert TensorError("out", 1e-9, 0.0, 0.0).share == float("inf")


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(4, dtype=torch.float64)])
def test_a_result_of_another_shape_or_dtype_is_drift(wrong: Tensor) -> None:
    (error,) = drift.hold_to_budget({"out": wrong}, NOTHING, filled(0.0))
    assert error.complaints[0].startswith("out: shape and dtype are ")


@pytest.mark.parametrize(
    ("value", "dtype", "spacing"),
    [(1.0, torch.float32, 2**-23), (1.9, torch.float16, 2**-10), (8.0, torch.bfloat16, 2**-4)],
)
def test_ulp_is_the_spacing_of_values(value: float, dtype: torch.dtype, spacing: float) -> None:
    assert drift.ulp(value, dtype) == spacing
    here = torch.tensor(value, dtype=dtype)
    assert float(torch.nextafter(here.float(), torch.tensor(99.0)) - here.float()) <= spacing


def test_inputs_depend_on_the_case_and_the_attempt_and_on_nothing_else() -> None:
    def q(work: Workload) -> Tensor:
        return work.inputs["q"]

    assert torch.equal(q(work_of(case())), q(work_of(case())))
    assert not torch.equal(q(work_of(case())), q(work_of(case(), attempt=1)))
    assert not torch.equal(q(work_of(case())), q(work_of(case(mask="full"))))


@pytest.mark.parametrize(
    ("name", "looser", "values", "fits"),
    [
        ("out", 1.0, 0.0, False),
        ("out", 75.0, 0.0, True),  # scores as much larger than usual
        ("dq", 1.0, 0.0, False),
        ("dq", 1.0, 300.0, True),  # whose rounding is larger than this gradient, in which they cancel
        ("dv", 1.0, 300.0, False),
    ],
)
def test_noise_is_that_of_what_was_rounded(name: str, looser: float, values: float, *, fits: bool) -> None:
    exact = {key: torch.full((1, 8), 20.0, dtype=torch.float64) for key in ("out", name)}
    naive = {key: tensor.float() for key, tensor in exact.items()}
    head = naive | {name: naive[name] + torch.tensor([4e-4] + 7 * [0.0])}
    errors = {e.name: e for e in drift.hold_to_budget(head, exact, naive, looser=looser, values=values)}
    assert (not errors[name].complaints) is fits, errors[name]
