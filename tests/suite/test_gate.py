"""The engine on small sides: what a bad kernel does to its own row, and what reaches the verdict.

Over 300 lines: the ways in which a case of the gate ends.
"""

import random
import re
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


Function = Callable[..., Tensor]
masked = attention.KERNELS["masked"]
MS = 1_000_000


@dataclass(frozen=True)
class Made:
    """A side's kernel: the function, how long it takes, and whether what it supports shows only when it is called."""

    function: Function = masked
    ms: float = 1.0
    undeclared: bool = False


LACKS = Made(ms=0.0)  # of a side that has no kernel


class World:
    """A fake clock that each kernel moves by its own known duration, with one percent of jitter."""

    def __init__(self) -> None:
        self.now = 0.0
        self.noise = random.Random(0)

    def side(self, label: str, made: Made) -> Side:
        def kernel(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
            self.now += made.ms * MS * self.noise.uniform(0.99, 1.01)
            return made.function(q, k, v, **rest)

        kernels = {} if made is LACKS else {"k": Kernel("k", kernel, Capabilities())}
        return Side(label, kernels, {}, frozenset({"k"}) if made.undeclared else frozenset())

    def sides(self, head: Made, base: Made | None = None) -> InProcess:
        clock = Clock(lambda: int(self.now), lambda: None)
        parts = self.side("head", head), None if base is None else self.side("base", base)
        return in_process(*parts, clock_of=lambda _: clock, now_ns=clock.now_ns)

    def compare(
        self,
        head: Made,
        base: Made | None,
        case: Case = CASE,
        **known: Any,
    ) -> CaseResult:
        """Compare both sides; ``known`` is what else is known of the base."""
        return Gate(self.sides(head, base), Base(SOURCE, **known)).compare(case, TEST, budget_s=5.0)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("slowdown", "verdict"),
    [(1.0, Verdict.UNCHANGED), (1.02, Verdict.UNCHANGED), (1.08, Verdict.REGRESSED), (0.8, Verdict.FASTER)],
)
def test_a_known_duration_gets_its_verdict(world: World, slowdown: float, verdict: Verdict) -> None:
    result = world.compare(Made(ms=slowdown), Made())
    assert result.verdict is verdict
    assert result.ratio == pytest.approx(slowdown, rel=0.01)


def by_inputs(act: Callable[[Tensor, int], Tensor]) -> tuple[Function, list[float]]:
    """Return a kernel whose output depends on how many contents of inputs it has seen, and a list of these."""
    inputs: list[float] = []

    def kernel(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        seen = float(q[0, 0, 0, 0])
        if seen not in inputs:
            inputs.append(seen)
        return act(masked(q, k, v, **rest), inputs.index(seen) + 1)

    return kernel, inputs


def test_a_slowdown_that_is_gone_on_fresh_inputs_does_not_fail(world: World) -> None:
    def slow_on_the_first(out: Tensor, contents: int) -> Tensor:
        world.now += 0.5 * MS if contents <= 2 else 0.0
        return out

    kernel, inputs = by_inputs(slow_on_the_first)
    result = world.compare(Made(kernel), Made())
    assert len(inputs) == 6  # each of three checks looks at two contents of the same tensors
    assert result.verdict is Verdict.UNCHANGED
    assert result.reasons[0] == "a slowdown was measured, but not confirmed by new twins"


def test_a_head_that_is_wrong_on_the_fresh_inputs_alone_has_drifted(world: World) -> None:
    kernel, inputs = by_inputs(lambda out, contents: out * (1.0 if contents <= 2 else 1.01))
    result = world.compare(Made(kernel, 1.3), Made())
    assert len(inputs) == 4  # a check looks at two contents of the same tensors
    assert result.verdict is Verdict.DRIFTED
    assert result.reasons[0].startswith("out: error ")


def test_a_slowdown_that_cannot_be_measured_again_is_an_error_and_not_skipped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = iter([2**40, 10])
    monkeypatch.setattr(environment, "available_bytes", lambda _: next(free))
    result = world.compare(Made(ms=1.3), Made())
    assert result.verdict is Verdict.ERROR
    assert result.reasons == (
        "may be slower, and could not be measured again: needs about 0.0 GiB of memory, 0.0 GiB are free",
    )
    assert result.head_fingerprint is not None


def test_fresh_inputs_on_which_both_sides_leave_their_budget_alike_show_no_drift(world: World) -> None:
    def off_on_later_inputs(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        return masked(q, k, v, **rest) * (1.0 if bool((q == first_q).all()) else 1.01)

    first_q = build(CASE, {}, attempt=0).inputs["q"]
    gate = Gate(world.sides(Made(off_on_later_inputs, 1.3), Made(off_on_later_inputs)), Base(SOURCE))
    assert gate.check(CASE, attempt=1).errors[0].complaints
    assert gate.compare(CASE, TEST, budget_s=5.0).verdict is Verdict.REGRESSED


def test_stored_errors_bind_on_the_first_inputs_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for ulps in ("ULPS", "NOISE_ULPS"):  # so that no error is free
        monkeypatch.setattr(drift, ulps, 0.0)
    stored = {CASE.id: {"out": 0.0}}  # what no head can keep to
    gate = Gate(world.sides(Made()), Base(SOURCE, stored_errors=stored))
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
    out = masked(q, k, v, **rest)
    with torch.no_grad():
        v.mul_(2)
    return out


def wrong_by_one_percent(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return masked(q, k, v, **rest) * 1.01


def cuts_the_gradient(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return masked(q, k.detach() + 0 * k, v, **rest)


BEFORE = Fingerprint(Pass({}, 2**20, 2**20), backend="flash")  # `masked` takes less, and no backend
STORED: dict[str, Any] = {"stored_fingerprints": {CASE.id: BEFORE}}
HUGE = Case("k", False, Shape.parse("b1h64t65536d64"), "full", "fp32", "cpu", "fwd")
BAD = {
    raises: "{} raised ValueError: on purpose",
    leaves: "{} raised SystemExit: 3",
    refuses: "{} raised NotImplementedError: k takes no such thing",
    writes: "{} wrote to its inputs",
}
OUTSIDE, REFUSING = Made(undeclared=True), Made(refuses, undeclared=True)
WRONG = Made(wrong_by_one_percent)


@pytest.mark.parametrize(
    ("head", "base", "more", "verdict", "reasons"),
    [
        *((Made(bad), Made(), {"case": case}, Verdict.ERROR, said.format("head"))
          for bad, said in BAD.items() for case in (CASE, BACKWARD)),
        *((Made(), Made(bad), {"case": case}, Verdict.ERROR, said.format("base"))
          for bad, said in BAD.items() for case in (CASE, BACKWARD)),
        (replace(WRONG, ms=0.5), Made(), {}, Verdict.DRIFTED, "out: error .*"),  # though it is faster
        (Made(cuts_the_gradient), Made(), {}, Verdict.UNCHANGED, ".*"),
        (Made(cuts_the_gradient), Made(), {"case": BACKWARD}, Verdict.DRIFTED, "dk: .*"),
        (Made(), LACKS, {}, Verdict.NEW, ".*"),
        (WRONG, LACKS, {}, Verdict.DRIFTED, "out: .*"),
        # Kernels from outside, whose refusals count by what the base does.
        (REFUSING, LACKS, {}, Verdict.SKIPPED, "k takes no such thing"),
        (REFUSING, OUTSIDE, {}, Verdict.ERROR, "head refuses what the base serves: k takes no such thing"),
        (OUTSIDE, REFUSING, {}, Verdict.NEW, ".*"),
        (replace(WRONG, undeclared=True), REFUSING, {}, Verdict.DRIFTED, "out: .*"),  # it is checked
        (REFUSING, REFUSING, {}, Verdict.SKIPPED, ".*"),
        (REFUSING, Made(raises, undeclared=True), {}, Verdict.SKIPPED, ".*"),
        # What was stored of the base counts where its code does not run.
        (Made(), Made(raises), STORED, Verdict.ERROR, "base raised ValueError: on purpose; backend flash -> none"),
        (Made(), None, {"error": "it does not import", **STORED}, Verdict.ERROR,
         "it does not import; backend flash -> none"),
        (Made(), LACKS, STORED, Verdict.CHANGED, "backend flash -> none.*"),
        (Made(), Made(), STORED, Verdict.UNCHANGED, ".*"),
    ],
)  # fmt: skip
def test_a_case_ends_by_what_its_sides_do(
    head: Made, base: Made | None, more: dict[str, Any], verdict: Verdict, reasons: str
) -> None:
    result = World().compare(head, base, **more)
    assert result.verdict is verdict
    assert re.fullmatch(reasons, "; ".join(result.reasons)), result.reasons


def test_a_case_that_does_not_fit_in_memory_is_skipped_with_the_figures(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "available_bytes", lambda _: 3 * 2**30)
    result = world.compare(Made(), Made(), HUGE)
    assert result.verdict is Verdict.SKIPPED
    assert result.reasons == ("needs about 14372.0 GiB of memory, 3.0 GiB are free",)


def test_a_stored_fingerprint_that_holds_is_said_of_a_case_that_the_base_s_code_lacks(world: World) -> None:
    fingerprint = world.compare(Made(), LACKS).head_fingerprint
    held = world.compare(Made(), LACKS, stored_fingerprints={CASE.id: fingerprint})
    assert held.verdict is Verdict.NEW
    assert held.reasons == ("not in the base's code: its stored fingerprint holds",)


def test_an_interrupt_ends_the_run_and_blames_nobody(world: World) -> None:
    with pytest.raises(KeyboardInterrupt):
        world.compare(Made(is_interrupted), Made())


def test_a_kernel_that_writes_to_its_inputs_only_later_is_an_error_too(world: World) -> None:
    calls: list[None] = []

    def writes_at_the_tenth_call(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        calls.append(None)
        return (writes if len(calls) == 10 else masked)(q, k, v, **rest)

    result = world.compare(Made(), Made(writes_at_the_tenth_call))
    assert result.verdict is Verdict.ERROR
    assert result.reasons == ("base wrote to its inputs while it was timed",)


def test_modules_of_both_sides_have_the_same_inputs_and_parameters() -> None:
    head = Side.of("head", attention)
    case = Case("mha", True, Shape.parse("b1h2t8d4"), "causal", "fp32", "cpu", "fwdbwd")
    errors = Gate(in_process(head, Side.of("base", attention)), Base(SOURCE)).check(case).errors
    parameters = {"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"}
    assert {e.name for e in errors} == {"out", "dx", *(f"d{name}" for name in parameters)}
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
    fresh, slow = world.sides(Made(), Made()), world.sides(Made(ms=2), Made())
    result = Gate(renewed(slow, lambda: fresh), Base(SOURCE)).compare(CASE, TEST, budget_s=5.0)
    assert result.verdict is Verdict.UNCHANGED
    assert "a slowdown was measured, but not confirmed by new twins" in result.reasons


def test_sides_that_are_many_copies_already_are_measured_once(world: World) -> None:
    sides = world.sides(Made(ms=2), Made())
    sides.again = None  # type: ignore[method-assign,assignment]  # as pairs of processes have none
    result = Gate(sides, Base(SOURCE)).compare(CASE, TEST, budget_s=5.0)
    assert result.verdict is Verdict.REGRESSED
    (measurement,) = result.measurements
    assert result.reasons[0].endswith(f"% slower, in {len(measurement.pairs)} pairs of processes")


@pytest.mark.parametrize(("slow_twins", "verdict"), [(range(99), Verdict.REGRESSED), ((0, 1), Verdict.UNCHANGED)])
def test_a_small_slowdown_is_replicated_by_pairs_of_twins(world: World, slow_twins: Any, verdict: Verdict) -> None:
    made: list[int] = []

    def make() -> Sides:
        made.append(len(made) + 1)
        return world.sides(Made(ms=1.08 if made[-1] in slow_twins else 1), Made())

    test = replace(TEST, replication_level=0.0006)
    gate = Gate(renewed(world.sides(Made(ms=1.08), Made()), make), Base(SOURCE))
    result = gate.compare(CASE, test, budget_s=60.0)
    assert result.verdict is verdict
    assert result.evidence.replication is not None
    assert len(made) == 1 + len(result.evidence.replication.pairs)
    assert "pairs of twins" in result.reasons[0]


def test_a_slowdown_whose_sides_cannot_be_made_anew_is_an_error(world: World) -> None:
    def refuse() -> Sides:
        raise CannotDo("no memory")

    slow = world.sides(Made(ms=2), Made())
    result = Gate(renewed(slow, refuse), Base(SOURCE)).compare(CASE, TEST, budget_s=5.0)
    assert result.verdict is Verdict.ERROR
    assert result.reasons[0] == "may be slower, and could not be measured again: no memory"
