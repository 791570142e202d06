"""The engine on small sides: what a bad kernel does to its own row, and what reaches the verdict.

Over 300 lines: the ways in which a case of the gate ends.
"""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import attention
from attention.registry import Capabilities, Kernel
from bench.judging.policy import Policy
from bench.judging.verdict import CaseResult, Verdict
from bench.observing import drift
from bench.plain.errors import CannotDo
from bench.plain.execution import Fingerprint, Pass
from bench.sources.source import Source
from bench.suite.base import Base
from bench.suite.cases import Case, Shape
from bench.suite.gate import Gate
from bench.suite.side import Side
from bench.suite.sides import InProcess, Sides, in_process
from bench.suite.workload import build
from bench.timing import environment
from bench.timing.clock import Clock

CASE = Case("k", False, Shape.parse("b1h2t8d4"), "full", "fp32", "cpu", "fwd")
BACKWARD = Case("k", False, Shape.parse("b1h2t8d4"), "full", "fp32", "cpu", "fwdbwd")
TEST = Policy().test(100)
SOURCE = Source("here", b"")  # of a base that is here already


class World:
    """A fake clock that each kernel moves by its own known duration, with one percent of jitter."""

    def __init__(self) -> None:
        self.now = 0.0
        self.noise = random.Random(0)

    def side(
        self, label: str, ns: float, function: Callable[..., Tensor] | None = None, *, undeclared: bool = False
    ) -> Side:
        def kernel(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
            self.now += ns * self.noise.uniform(0.99, 1.01)
            return (function or attention.KERNELS["masked"])(q, k, v, **rest)

        registered = Kernel("k", kernel, Capabilities())
        return Side(label, {"k": registered}, {}, frozenset({"k"}) if undeclared else frozenset())

    def compare(self, head: Side, base: Side | None, case: Case = CASE, **known: Any) -> CaseResult:
        """Compare both sides; ``known`` is what else is known of the base."""
        return Gate(self.sides(head, base), Base(SOURCE, **known)).compare(case, TEST, budget_s=5.0)

    def sides(self, head: Side, base: Side | None) -> InProcess:
        clock = Clock(lambda: int(self.now), lambda: None)
        return in_process(head, base, clock_of=lambda _: clock, now_ns=clock.now_ns)


@pytest.fixture
def world() -> World:
    return World()


MS = 1_000_000


@pytest.mark.parametrize(
    ("slowdown", "verdict"),
    [(1.0, Verdict.UNCHANGED), (1.02, Verdict.UNCHANGED), (1.08, Verdict.REGRESSED), (0.8, Verdict.FASTER)],
)
def test_a_known_duration_gets_its_verdict(world: World, slowdown: float, verdict: Verdict) -> None:
    result = world.compare(world.side("head", slowdown * MS), world.side("base", MS))
    assert result.verdict is verdict
    assert result.ratio == pytest.approx(slowdown, rel=0.01)


def test_a_slowdown_that_is_gone_on_fresh_inputs_does_not_fail(world: World) -> None:
    inputs: list[float] = []

    def slow_on_the_first_inputs(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        seen = float(q[0, 0, 0, 0])
        if seen not in inputs:
            inputs.append(seen)
        world.now += 0.5 * MS if seen in inputs[:2] else 0.0
        return attention.KERNELS["masked"](q, k, v, **rest)

    result = world.compare(world.side("head", MS, slow_on_the_first_inputs), world.side("base", MS))
    assert len(inputs) == 6  # each of three checks looks at two contents of the same tensors
    assert result.verdict is Verdict.UNCHANGED
    assert result.reasons[0] == "a slowdown was measured, but not confirmed by new twins"


def test_a_slowdown_that_cannot_be_measured_again_is_an_error_and_not_skipped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([2**40, 10])
    monkeypatch.setattr(environment, "available_bytes", lambda _: next(free))
    result = world.compare(world.side("head", 1.3 * MS), world.side("base", MS))
    assert result.verdict is Verdict.ERROR
    assert result.reasons == (
        "may be slower, and could not be measured again: needs about 0.0 GiB of memory, 0.0 GiB are free",
    )
    assert result.head_fingerprint is not None


def test_a_head_that_is_wrong_on_the_fresh_inputs_alone_has_drifted(world: World) -> None:
    inputs: list[float] = []

    def wrong_on_the_second_inputs(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        seen = float(q[0, 0, 0, 0])
        if seen not in inputs:
            inputs.append(seen)
        return attention.KERNELS["masked"](q, k, v, **rest) * (1.0 if seen in inputs[:2] else 1.01)

    result = world.compare(world.side("head", 1.3 * MS, wrong_on_the_second_inputs), world.side("base", MS))
    assert len(inputs) == 4  # a check looks at two contents of the same tensors
    assert result.verdict is Verdict.DRIFTED
    assert result.reasons[0].startswith("out: error ")


def test_fresh_inputs_on_which_both_sides_leave_their_budget_alike_show_no_drift(world: World) -> None:
    def off_on_later_inputs(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        return attention.KERNELS["masked"](q, k, v, **rest) * (1.0 if bool((q == first_q).all()) else 1.01)

    first_q = build(CASE, {}, attempt=0).inputs["q"]
    head, base = (world.side(label, ms * MS, off_on_later_inputs) for label, ms in (("head", 1.3), ("base", 1.0)))
    gate = Gate(world.sides(head, base), Base(SOURCE))
    assert gate.check(CASE, attempt=1).errors[0].complaints
    assert gate.compare(CASE, TEST, budget_s=5.0).verdict is Verdict.REGRESSED


def test_stored_errors_bind_on_the_first_inputs_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for ulps in ("ULPS", "NOISE_ULPS"):  # so that no error is free
        monkeypatch.setattr(drift, ulps, 0.0)
    stored = {CASE.id: {"out": 0.0}}  # what no head can keep to
    gate = Gate(world.sides(world.side("head", MS), None), Base(SOURCE, stored_errors=stored))
    first, again = (gate.check(CASE, attempt).errors for attempt in (0, 1))
    assert first[0].complaints
    assert not again[0].complaints


def raises(*_: Any, **__: Any) -> Tensor:
    raise ValueError("on purpose")


def leaves(*_: Any, **__: Any) -> Tensor:
    raise SystemExit(3)


def is_interrupted(*_: Any, **__: Any) -> Tensor:
    raise KeyboardInterrupt


def refuses(*_: Any, **__: Any) -> Tensor:
    raise NotImplementedError("k takes no such thing")


def writes(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out = attention.KERNELS["masked"](q, k, v, **rest)
    with torch.no_grad():
        v.mul_(2)
    return out


def wrong_by_one_percent(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return attention.KERNELS["masked"](q, k, v, **rest) * 1.01


def cuts_the_gradient(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return attention.KERNELS["masked"](q, k.detach() + 0 * k, v, **rest)


@pytest.mark.parametrize("case", [CASE, BACKWARD], ids=["fwd", "fwdbwd"])
@pytest.mark.parametrize(
    ("function", "verdict", "reason"),
    [
        (raises, Verdict.ERROR, "{} raised ValueError: on purpose"),
        (leaves, Verdict.ERROR, "{} raised SystemExit: 3"),
        (refuses, Verdict.ERROR, "{} raised NotImplementedError: k takes no such thing"),
        (writes, Verdict.ERROR, "{} wrote to its inputs"),
    ],
)
def test_a_side_that_misbehaves_is_an_error_that_names_the_side(
    world: World, case: Case, function: Callable[..., Tensor], verdict: Verdict, reason: str
) -> None:
    for bad, good in (("head", "base"), ("base", "head")):
        sides = {bad: world.side(bad, MS, function), good: world.side(good, MS)}
        result = world.compare(sides["head"], sides["base"], case)
        assert result.verdict is verdict
        assert result.reasons == (reason.format(bad),)


def test_an_interrupt_ends_the_run_and_blames_nobody(world: World) -> None:
    with pytest.raises(KeyboardInterrupt):
        world.compare(world.side("head", MS, is_interrupted), world.side("base", MS))


def test_a_kernel_that_writes_to_its_inputs_only_later_is_an_error_too(world: World) -> None:
    calls: list[None] = []

    def writes_at_the_tenth_call(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        calls.append(None)
        return writes(q, k, v, **rest) if len(calls) == 10 else attention.KERNELS["masked"](q, k, v, **rest)

    result = world.compare(world.side("head", MS), world.side("base", MS, writes_at_the_tenth_call))
    assert result.verdict is Verdict.ERROR
    assert result.reasons == ("base wrote to its inputs while it was timed",)


def test_a_kernel_wrong_by_one_percent_has_drifted_though_it_is_faster(world: World) -> None:
    result = world.compare(world.side("head", 0.5 * MS, wrong_by_one_percent), world.side("base", MS))
    assert result.verdict is Verdict.DRIFTED
    assert result.ratio == pytest.approx(0.5, rel=0.01)
    assert result.reasons[0].startswith("out: error ")


def test_a_gradient_that_is_cut_has_drifted_though_the_output_is_right(world: World) -> None:
    forward = world.compare(world.side("head", MS, cuts_the_gradient), world.side("base", MS), CASE)
    backward = world.compare(world.side("head", MS, cuts_the_gradient), world.side("base", MS), BACKWARD)
    assert forward.verdict is Verdict.UNCHANGED
    assert backward.verdict is Verdict.DRIFTED
    assert [reason.partition(":")[0] for reason in backward.reasons[:1]] == ["dk"]


def test_a_case_that_does_not_fit_in_memory_is_skipped_with_the_figures(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "available_bytes", lambda _: 3 * 2**30)
    huge = Case("k", False, Shape.parse("b1h64t65536d64"), "full", "fp32", "cpu", "fwd")
    result = world.compare(world.side("head", MS), world.side("base", MS), huge)
    assert result.verdict is Verdict.SKIPPED
    assert result.reasons == ("needs about 14372.0 GiB of memory, 3.0 GiB are free",)


def test_a_case_without_a_base_is_new_and_still_checked(world: World) -> None:
    lacking = Side("base", {}, {})
    assert world.compare(world.side("head", MS), lacking).verdict is Verdict.NEW
    assert world.compare(world.side("head", MS, wrong_by_one_percent), lacking).verdict is Verdict.DRIFTED


def test_an_outside_kernel_that_does_not_support_a_case_is_skipped_with_its_own_words(world: World) -> None:
    result = world.compare(world.side("head", MS, refuses, undeclared=True), Side("base", {}, {}))
    assert result.verdict is Verdict.SKIPPED
    assert result.reasons == ("k takes no such thing",)


def test_an_outside_kernel_that_refuses_what_its_base_serves_is_an_error_and_the_reverse_is_new(world: World) -> None:
    def compare(of_head: Callable[..., Tensor] | None, of_base: Callable[..., Tensor] | None) -> CaseResult:
        head, base = world.side("head", MS, of_head, undeclared=True), world.side("base", MS, of_base, undeclared=True)
        return world.compare(head, base)

    lost = compare(refuses, None)
    assert lost.verdict is Verdict.ERROR
    assert lost.reasons == ("head refuses what the base serves: k takes no such thing",)
    assert compare(None, refuses).verdict is Verdict.NEW
    assert compare(wrong_by_one_percent, refuses).verdict is Verdict.DRIFTED  # it is checked
    assert compare(refuses, refuses).verdict is Verdict.SKIPPED
    assert compare(refuses, raises).verdict is Verdict.SKIPPED


BEFORE = Fingerprint(Pass({}, 2**20, 2**20), backend="flash")  # `masked` takes less, and no backend
STORED: dict[str, Any] = {"stored_fingerprints": {CASE.id: BEFORE}}


def test_a_base_that_raises_stays_an_error_and_shows_what_changed_since_it_was_stored(world: World) -> None:
    result = world.compare(world.side("head", MS), world.side("base", MS, raises), **STORED)
    assert result.verdict is Verdict.ERROR
    assert result.reasons == ("base raised ValueError: on purpose", "backend flash -> none")


def test_a_base_that_does_not_import_is_an_error_for_every_case_and_shows_the_same(world: World) -> None:
    result = world.compare(world.side("head", MS), None, error="the base does not import", **STORED)
    assert result.verdict is Verdict.ERROR
    assert result.reasons == ("the base does not import", "backend flash -> none")


def test_a_case_that_only_the_stored_baseline_has_is_held_to_its_stored_fingerprint(world: World) -> None:
    head, lacking = world.side("head", MS), Side("base", {}, {})
    changed = world.compare(head, lacking, **STORED)
    assert changed.verdict is Verdict.CHANGED
    assert changed.reasons[0] == "backend flash -> none"
    print_ = changed.head_fingerprint
    assert print_ is not None
    held = world.compare(head, lacking, stored_fingerprints={CASE.id: print_})
    assert held.verdict is Verdict.NEW
    assert held.reasons == ("not in the base's code: its stored fingerprint holds",)


def test_a_base_that_runs_counts_and_not_what_was_stored_of_it(world: World) -> None:
    assert world.compare(world.side("head", MS), world.side("base", MS), **STORED).verdict is Verdict.UNCHANGED


@pytest.mark.parametrize("subject", ["mha", "mhaloop"])
def test_modules_of_both_sides_have_the_same_inputs_and_parameters(subject: str) -> None:
    head = Side.of("head", attention)
    case = Case(subject, True, Shape.parse("b1h2t8d4"), "causal", "fp32", "cpu", "fwdbwd")
    errors = Gate(in_process(head, Side.of("base", attention)), Base(SOURCE)).check(case).errors
    assert {e.name for e in errors} == {
        "out",
        "dx",
        "din_proj_weight",
        "din_proj_bias",
        "dout_proj.weight",
        "dout_proj.bias",
    }
    assert all(e.bit_equal for e in errors)


@dataclass
class Renewed(InProcess):
    """Sides that are made anew by what the test says."""

    make: Callable[[], Sides] = field(kw_only=True)

    def again(self) -> AbstractContextManager[Sides]:
        return nullcontext(self.make())


def renewed(sides: InProcess, make: Callable[[], Sides]) -> Renewed:
    return Renewed(sides.head, sides.base, sides.examiner, now_ns=sides.now_ns, make=make)


def test_a_slowdown_is_confirmed_by_sides_that_are_made_anew(world: World) -> None:
    fresh = world.sides(world.side("head", MS), world.side("base", MS))
    slow = world.sides(world.side("head", 2 * MS), world.side("base", MS))
    result = Gate(renewed(slow, lambda: fresh), Base(SOURCE)).compare(CASE, TEST, budget_s=5.0)
    assert result.verdict is Verdict.UNCHANGED
    assert "a slowdown was measured, but not confirmed by new twins" in result.reasons


@pytest.mark.parametrize(("slow_twins", "verdict"), [(range(99), Verdict.REGRESSED), ((0, 1), Verdict.UNCHANGED)])
def test_a_small_slowdown_is_replicated_by_pairs_of_twins(world: World, slow_twins: Any, verdict: Verdict) -> None:
    made: list[int] = []

    def make() -> Sides:
        made.append(len(made) + 1)
        return world.sides(world.side("head", 1.08 * MS if made[-1] in slow_twins else MS), world.side("base", MS))

    first = world.sides(world.side("head", 1.08 * MS), world.side("base", MS))
    test = replace(TEST, replication_level=0.0006)
    result = Gate(renewed(first, make), Base(SOURCE)).compare(CASE, test, budget_s=60.0)
    assert result.verdict is verdict
    assert result.evidence.replication is not None
    assert len(made) == 1 + len(result.evidence.replication.pairs)
    assert "further pairs of twins" in result.reasons[0] or "pairs of twins" in result.reasons[0]


def test_a_slowdown_whose_sides_cannot_be_made_anew_is_an_error(world: World) -> None:
    def refuse() -> Sides:
        raise CannotDo("no memory")

    slow = world.sides(world.side("head", 2 * MS), world.side("base", MS))
    result = Gate(renewed(slow, refuse), Base(SOURCE)).compare(CASE, TEST, budget_s=5.0)
    assert (result.verdict, result.reasons[0]) == (
        Verdict.ERROR,
        "may be slower, and could not be measured again: no memory",
    )
