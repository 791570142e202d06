"""Calls that are not calls: what is kept, used again, random or never written, of one side of a comparison.

Over 300 lines: one table of calls that are not what they seem.
"""

import gc
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FunctionType
from typing import Any

import pytest
import torch
from torch import Tensor

import attention
from attention.registry import Capabilities, Kernel
from bench.judging.judge import judge_case
from bench.judging.policy import Policy
from bench.judging.verdict import Verdict
from bench.observing import states
from bench.plain.evidence import Evidence
from bench.selftest.faults import FAULTS, UNTIMED, WHOLE, Fault
from bench.sources.source import Source
from bench.suite.base import Base
from bench.suite.cases import Case
from bench.suite.gate import Gate
from bench.suite.side import Side
from bench.suite.sides import in_process
from bench.twins.party import SideFailed

Function = Callable[..., Any]
TEST = Policy().test(100)
masked = attention.KERNELS["masked"]
GENERATOR = torch.Generator()  # of kernels that leave those of their callers alone
PLANTED = {fault.kind: fault for fault in FAULTS if fault.kernel == WHOLE and UNTIMED not in fault.cases}
FWD, BOTH = "k-b1h2t24d8-full-fp32-cpu-fwd", "k-b1h2t24d8-full-fp32-cpu-fwdbwd"

kept: dict[Any, Any] = {}
listed: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    with states.watching():  # which turns back what the test left changed
        yield
    kept.clear()
    listed.clear()
    gc.collect()


def remembered(key: object, work: Callable[[], Tensor]) -> Tensor:
    if key not in kept:
        kept[key] = work()
    result: Tensor = kept[key]
    return result


def remembering(key: Callable[[Tensor], object]) -> Function:
    """Return a kernel that computes once for each key of its inputs."""

    def kernel(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        return remembered(tuple(map(key, (q, k, v))), lambda: masked(q, k, v, **rest))

    return kernel


def after(change: Callable[[Tensor], Tensor]) -> Function:
    """Return the right kernel with something done to its output."""
    return lambda q, k, v, **rest: change(masked(q, k, v, **rest))


class Passed(torch.autograd.Function):
    """Passes on what it is given, and its gradient by what the test says."""

    on_the_way_back: Callable[[Tensor], Tensor]

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004  # torch's signature
        return x * 1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004  # torch's signature
        return Passed.on_the_way_back(gradient)


def passed(x: Tensor, way: Callable[[Tensor], Tensor]) -> Tensor:
    Passed.on_the_way_back = staticmethod(way)
    made: Tensor = Passed.apply(x)  # type: ignore[no-untyped-call]  # torch gives it no types
    return made


def backwards(way: Callable[[Tensor], Tensor]) -> Function:
    """Return the right kernel with something done to the gradient of its output."""
    return after(lambda out: passed(out, way))


class FreesWhatItSaved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.kept = x.detach() * 1
        return x * 1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        kept, ctx.kept = ctx.kept, None
        return gradient + 0 * kept


by_address = remembering(Tensor.data_ptr)


def from_the_second_call_on(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    listed.append(None)
    return masked(q, k, v, **rest) if len(listed) == 1 else by_address(q, k, v, **rest)


def values_by_address(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return masked(q, k, remembered(v.data_ptr(), v.clone), **rest)


def mask_by_address(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, **rest: Any) -> Tensor:
    return masked(q, k, v, mask=remembered(mask.data_ptr(), mask.detach().clone), **rest)


def scores_by_shape(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
    weights = remembered(q.shape, lambda: (q.detach() @ k.detach().mT * q.shape[-1] ** -0.5).softmax(-1))
    return weights @ v


def into_a_buffer(out: Tensor) -> Tensor:
    return remembered(out.shape, lambda: torch.zeros_like(out)).copy_(out)


def into_two_buffers_in_turn(out: Tensor) -> Tensor:
    listed.append(None)
    return remembered((out.shape, len(listed) % 2), lambda: torch.empty_like(out)).copy_(out)


def grad_into_a_buffer(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return masked(q, k, passed(v, into_a_buffer), **rest)


noisy = after(lambda out: out + torch.randn(out.shape, generator=GENERATOR) * 5e-8)


def scores_kept(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    listed.append((q @ k.mT).detach())
    return masked(q, k, v, **rest)


def one_kept(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    kept["last"] = (q @ k.mT).detach()
    return masked(q, k, v, **rest)


def gradients_kept(gradient: Tensor) -> Tensor:
    listed.append(gradient * 2)
    return gradient


def warming_up_once(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    if not kept:
        time.sleep(0.15)
        kept["warm"] = True
    return masked(q, k, v, **rest)


def requiring_gradients(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    k.requires_grad_()
    return masked(q, k, v, **rest)


def put_back(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, **rest: Any) -> Tensor:
    out = masked(q, k, v, mask=~mask.data.logical_not_(), **rest)
    mask.data.logical_not_()
    return out


def filling_grad(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    (0 * k).sum().backward()
    return masked(q, k, v, **rest)


@torch.library.custom_op("silent_calls::accumulated", mutates_args=())
def accumulated(x: Tensor) -> Tensor:
    """Add to uninitialised memory, where no dispatch mode looks from outside."""
    return x.new_empty(x.shape).mul_(0).add_(x)


unwritten_backwards = backwards(lambda gradient: torch.empty_like(gradient).mul_(0).add_(gradient))


def uncompiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out: Tensor = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
    return out


def unwritten_in_compiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
    return torch.empty_like(out).mul_(0).add_(out)


def compiled_with(function: Function, **options: Any) -> Function:
    """Return a kernel of code of its own, as each side has: what is compiled is kept with the code."""
    own = FunctionType(function.__code__.replace(), function.__globals__)
    compiled = torch.compile(own, backend="eager", **options)
    return lambda q, k, v, **_: compiled(q, k, v)


def side(label: str, work: Function | type) -> Side:
    if isinstance(work, type):
        return Side(label, {}, {"k": work})
    return Side(label, {"k": Kernel("k", work, Capabilities())}, {})


def verdict(
    head: Function | type, case: str = FWD, base: Function | type = masked, *, watched: bool = True
) -> tuple[Verdict, str]:
    """Check both sides, time nothing, and say what is said."""
    of = replace(Case.parse(case, {"k"} if isinstance(head, type) else ()), watched=watched)
    gate = Gate(in_process(side("head", head), side("base", base)), Base(Source("here", b"")))
    try:
        evidence = gate.check(of)
    except SideFailed as failure:
        evidence = Evidence(of.id, error=str(failure))
    result = judge_case(evidence, TEST)
    return result.verdict, "; ".join(result.reasons)


EARLIER = "belongs to earlier inputs"
OVERWRITES = "head returns memory that its next call overwrites"
REPEATS = r"no longer repeats bit for bit"
UNWRITTEN = "depends on uninitialised memory"
DRIFTED, CHANGED, ERROR, UNCHANGED = Verdict.DRIFTED, Verdict.CHANGED, Verdict.ERROR, Verdict.UNCHANGED
KINDS: dict[str, tuple[Function, str, Verdict, str]] = {
    "remembered by address": (by_address, FWD, DRIFTED, f"out: {EARLIER}"),
    "remembered by identity": (remembering(id), FWD, DRIFTED, f"out: {EARLIER}"),
    "remembered by shape": (remembering(lambda t: t.shape), FWD, DRIFTED, f"out: {EARLIER}"),
    "remembered by version": (remembering(lambda t: (t.data_ptr(), t._version)), FWD, DRIFTED, f"out: {EARLIER}"),
    "half": (by_address, "k-b2h4kv2t16k24d8v4-causalfloatmask-bf16-cpu-fwd", DRIFTED, f"out: {EARLIER}"),
    "remembered from the second call on": (from_the_second_call_on, FWD, DRIFTED, f"out: {EARLIER}"),
    "v": (values_by_address, "k-b1h2t24d8-full-fp16-cpu-fwd", DRIFTED, f"out: {EARLIER}"),
    "mask": (mask_by_address, "k-b2h2t24d8-floatmask-fp32-cpu-fwd", DRIFTED, f"out: {EARLIER}"),
    "learned mask": (mask_by_address, "k-b2h2t24d8-learnedmask-fp32-cpu-fwd", DRIFTED, f"out: {EARLIER}"),
    "bool mask": (mask_by_address, "k-b2h2t24d8-boolmask-fp32-cpu-fwdbwd", DRIFTED, f"out: {EARLIER}"),
    "q and k": (scores_by_shape, FWD, DRIFTED, f"out: {EARLIER}"),
    "upstream": (backwards(lambda g: remembered(g.data_ptr(), g.clone)), BOTH, DRIFTED, f"dq: {EARLIER}"),
    "buffer": (after(into_a_buffer), FWD, ERROR, f"{OVERWRITES}: out"),
    "two buffers in turn": (after(into_two_buffers_in_turn), FWD, ERROR, f"{OVERWRITES}: out"),
    "buffer of a gradient": (grad_into_a_buffer, BOTH, ERROR, f"{OVERWRITES}: dv"),
    "noise": (noisy, FWD, CHANGED, rf"{REPEATS} \(out\)"),
    "noise backwards": (backwards(lambda g: g + torch.randn_like(g) * 1e-7), BOTH, CHANGED, rf"{REPEATS} \(dq, dk, dv"),
    "scores kept": (scores_kept, FWD, CHANGED, f"keeps {2 * 24 * 24 * 4} bytes a call alive"),
    "gradients kept": (backwards(gradients_kept), BOTH, CHANGED, f"keeps {2 * 24 * 8 * 4} bytes a call alive"),
    "one kept": (one_kept, FWD, UNCHANGED, f"keeps {2 * 24 * 24 * 4} bytes alive between calls, and the base 0"),
    "negated": (after(lambda out: torch._neg_view(-out)), FWD, ERROR, "head returns out as a view that negates"),
    "requiring a gradient": (
        after(lambda out: out.detach().requires_grad_()), FWD, ERROR, "head returns out as a tensor that requires a",
    ),
    "sparse": (after(Tensor.to_sparse), FWD, ERROR, "head returns out as a tensor of layout torch.sparse_coo"),
    "requires_grad of an input": (requiring_gradients, FWD, ERROR, "head changed requires_grad or grad of its inputs"),
    "put back": (put_back, "k-b2h2t24d8-boolmask-fp32-cpu-fwd", ERROR, "head wrote to its inputs"),
    "put back through out": (
        lambda q, k, v, **rest: masked(q, torch.mul(k, 1, out=k.data), v, **rest), FWD, ERROR, "head wrote to its inp",
    ),
    "a view in place": (lambda q, k, v, **rest: masked(q, k.data.unsqueeze_(0)[0], v, **rest), FWD, UNCHANGED, ""),
    "grad of an input": (filling_grad, BOTH, ERROR, "head changed requires_grad or grad of its inputs"),
    "freed": (after(FreesWhatItSaved.apply), BOTH, CHANGED, "a second backward pass through the same graph raises"),
    "strides": (  # none where there is one item
        after(lambda out: out.mT.contiguous().mT), FWD, CHANGED,
        r"strides of the output \(0, 192, 8, 1\) -> \(0, 192, 1, 24\)",
    ),
    "slow once": (warming_up_once, FWD, UNCHANGED, ""),
    "unwritten": (after(lambda out: out.new_empty(out.shape).add_(out)), FWD, DRIFTED, f"out: {UNWRITTEN}"),
    "unwritten times 0": (
        after(lambda out: out + 0 * torch.empty_strided(out.shape, out.stride())), BOTH, DRIFTED, f"out: {UNWRITTEN}",
    ),
    "choosing by unwritten": (  # NaN is not above it
        after(lambda out: out + (torch.empty(24).max() > 100).to(out.dtype)), FWD, DRIFTED, f"out: {UNWRITTEN}",
    ),
    "resized": (after(lambda out: out + 0 * torch.zeros(1).resize_(64).sum()), FWD, DRIFTED, f"out: {UNWRITTEN}"),
    "in an operator": (after(accumulated), FWD, DRIFTED, f"out: {UNWRITTEN}"),
    "unwritten backwards": (unwritten_backwards, BOTH, DRIFTED, f"dk: {UNWRITTEN}"),
    "over the batch": (
        after(lambda out: out * (1 + 1.2e-7 * (out.shape[0] > 1))), "k-b2h2t24d8-full-fp32-cpu-fwd", UNCHANGED,
        "an item's result depends on the rest of its batch",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_named(name: str) -> None:
    work, case, wanted, reason = KINDS[name]
    found, reasons = verdict(work, case)
    assert found is wanted, reasons
    assert re.search(reason, reasons), reasons


@pytest.mark.parametrize("kind", PLANTED)
def test_what_the_self_test_plants_is_named(planted: Callable[[Fault], Function], kind: str) -> None:
    cases = ["k-b1h2t24d8-causal-fp32-cpu-fwd", "k-b2h2t24d8-boolmask-fp32-cpu-fwd", BOTH]
    found = [verdict(planted(PLANTED[kind]), case) for case in (cases[1:2] if "mask" in kind else cases[::2])]
    assert any(PLANTED[kind].said in reasons and seen.fails for seen, reasons in found), found


def test_where_calls_are_not_watched_two_calls_on_the_same_inputs_are_compared(
    planted: Callable[[Fault], Function],
) -> None:
    found, reasons = verdict(noisy, watched=False)
    assert (found, re.search(REPEATS, reasons) is not None) == (CHANGED, True), reasons
    found, reasons = verdict(planted(PLANTED["wrong at the first call of each length"]), watched=False)
    assert found is DRIFTED
    assert "out: is wrong at the first call of a length" in reasons


class KeepsResult(attention.MultiHeadAttention):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        return remembered(x.data_ptr(), lambda: super(KeepsResult, self).forward(x, **given))


class KeepsWeights(attention.MultiHeadAttention):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        out = super().forward(x, *rest, **given)
        if not hasattr(self, "bias"):
            self.bias = self.out_proj.bias.detach().clone()
        return out - self.out_proj.bias.detach() + self.bias


class NotCausalInEvaluation(attention.MultiHeadAttention):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        return super().forward(x, *rest, **given | ({} if self.training else {"causal": False}))


class KeepsBlockScores(attention.TransformerBlock):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        listed.append(x.detach() @ x.detach().mT)
        return super().forward(x, *rest, **given)


@pytest.mark.parametrize(
    ("work", "base", "case", "wanted", "reason"),
    [
        (KeepsResult, "mha", "causal-fp32-cpu-fwd", DRIFTED, f"out: {EARLIER}"),
        (KeepsWeights, "mha", "full-fp32-cpu-fwdbwd", DRIFTED, f"out: {EARLIER}"),
        (NotCausalInEvaluation, "mha", "causal-fp32-cpu-fwd", DRIFTED, "out: differs in evaluation"),
        (NotCausalInEvaluation, "mha", "causal-bf16-cpu-fwdbwd", DRIFTED, "out: differs in evaluation"),
        (KeepsBlockScores, "block", "causal-fp32-cpu-fwd", CHANGED, "keeps 4608 bytes a call alive"),
    ],
)
def test_each_kind_is_named_in_modules(work: type, base: str, case: str, wanted: Verdict, reason: str) -> None:
    found, reasons = verdict(work, f"k-b2h4kv2t24d8-{case}", attention.MODULES[base])
    assert found is wanted, reasons
    assert re.search(reason, reasons), reasons


def test_what_neither_side_repeats_is_a_note() -> None:
    found, reasons = verdict(noisy, FWD, noisy)
    assert found is UNCHANGED
    assert "base and head do not repeat bit for bit" in reasons
    assert "repeats bit for bit now" in verdict(masked, FWD, noisy)[1]


def test_a_base_that_repeated_by_luck_gets_more_chances_before_the_head_is_blamed() -> None:
    def seldom_noisy(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        listed.append(None)
        return (noisy if len(listed) % 7 == 0 else masked)(q, k, v, **rest)

    found, reasons = verdict(noisy, FWD, seldom_noisy)
    assert found is UNCHANGED, reasons
    assert "base and head do not repeat bit for bit" in reasons


@pytest.mark.parametrize(
    ("work", "case", "note"),
    [
        (by_address, FWD, "the base's result belongs to earlier inputs (out)"),
        (from_the_second_call_on, FWD, "the base's result belongs to earlier inputs (out)"),
        (after(into_a_buffer), FWD, "the base's result is memory that its next call overwrites (out)"),
        (unwritten_backwards, BOTH, "the base's result depends on uninitialised memory (dq, dk, dv)"),
        (scores_kept, FWD, "keeps 0 bytes a call alive, and the base 4608"),
        (
            "wrong at the first call of each length",
            FWD,
            "the base's result is wrong at the first call of a length (out)",
        ),
        (
            "a second backward pass that is wrong",
            BOTH,
            "the base's result is wrong in a second backward pass (dq, dk, dv)",
        ),
        ("work at the first call of each length", FWD, ""),
    ],
)
def test_what_the_base_does_wrong_is_a_note_and_fails_no_head_that_mends_it(
    planted: Callable[[Fault], Function], work: Function | str, case: str, note: str
) -> None:
    found, reasons = verdict(masked, case, planted(PLANTED[work]) if isinstance(work, str) else work)
    assert found is UNCHANGED, reasons
    assert note in reasons


def test_a_kernel_that_compiles_for_each_length_has_changed() -> None:
    found, reasons = verdict(compiled_with(uncompiled, dynamic=False), FWD, compiled_with(uncompiled, dynamic=None))
    assert found is CHANGED
    assert "compiles for each length" in reasons


def test_compiled_code_is_watched_too() -> None:
    base, kernel = (compiled_with(uncompiled, dynamic=True) for _ in range(2))

    def leaks(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        out: Tensor = kernel(q, k, v)
        listed.append(out * 2)
        return out

    def remembers(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        return remembered(q.data_ptr(), lambda: kernel(q, k, v))

    for work, wanted, reason in (
        (leaks, CHANGED, "keeps 1536 bytes a call alive"),
        (remembers, DRIFTED, f"out: {EARLIER}"),
        (compiled_with(unwritten_in_compiled, dynamic=True), DRIFTED, f"out: {UNWRITTEN}"),
    ):
        found, reasons = verdict(work, FWD, base)
        assert found is wanted, reasons
        assert reason in reasons
