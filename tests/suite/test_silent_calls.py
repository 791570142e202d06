"""Calls that are not calls: what is kept, used again, random or never written, of one side of a comparison.

Over 300 lines: one table of calls that are not what they seem.
"""

import gc
import random
import re
import time
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, Self

import numpy as np
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
from bench.sources.source import Source
from bench.suite.base import Base
from bench.suite.cases import Case, Shape
from bench.suite.gate import Gate
from bench.suite.side import Side
from bench.suite.sides import in_process
from bench.twins.party import SideFailed

Work = Callable[..., Any]
TEST = Policy().test(100)
masked = attention.KERNELS["masked"]

GENERATOR = torch.Generator()  # of kernels that leave those of their callers alone

kept: dict[Any, Any] = {}
listed: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    with states.watching():  # which turns back what the test left changed
        yield
    kept.clear()
    listed.clear()
    gc.collect()


def plain(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return masked(q, k, v, **rest)


def remembered(key: object, work: Callable[[], Tensor]) -> Tensor:
    if key not in kept:
        kept[key] = work()
    result: Tensor = kept[key]
    return result


def by_address(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return remembered((q.data_ptr(), k.data_ptr(), v.data_ptr()), lambda: masked(q, k, v, **rest))


def by_identity(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return remembered((id(q), id(k), id(v)), lambda: masked(q, k, v, **rest))


def by_shape(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return remembered((q.shape, k.shape), lambda: masked(q, k, v, **rest))


def by_version(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    key = tuple((t.data_ptr(), t._version) for t in (q, k, v))
    return remembered(key, lambda: masked(q, k, v, **rest))


def from_the_second_call_on(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    listed.append(None)
    return masked(q, k, v, **rest) if len(listed) == 1 else by_address(q, k, v, **rest)


def values_by_address(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return masked(q, k, remembered(v.data_ptr(), v.clone), **rest)


def mask_by_address(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, **rest: Any) -> Tensor:
    return masked(q, k, v, mask=remembered(mask.data_ptr(), mask.detach().clone), **rest)


def bool_mask_by_shape(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, **rest: Any) -> Tensor:
    added = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    return masked(q, k, v, mask=remembered(mask.shape, lambda: added), **rest)


def scores_by_shape(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    del rest
    weights = remembered(q.shape, lambda: (q.detach() @ k.detach().mT * q.shape[-1] ** -0.5).softmax(-1))
    return weights @ v


class Scaled(torch.autograd.Function):
    """Passes on what it is given, forward and backward, by what the test says."""

    on_the_way_back: Callable[[Tensor], Tensor]

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004  # torch's signature
        return x * 1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004  # torch's signature
        return Scaled.on_the_way_back(gradient)


def backwards(way: Callable[[Tensor], Tensor]) -> Work:
    """Return the plain kernel with something done to the gradient of its output."""

    def kernel(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        Scaled.on_the_way_back = staticmethod(way)
        out: Tensor = Scaled.apply(masked(q, k, v, **rest))  # type: ignore[no-untyped-call]  # torch gives it no types
        return out

    return kernel


gradient_by_address = backwards(lambda gradient: remembered(gradient.data_ptr(), gradient.clone))
gradient_by_shape = backwards(lambda gradient: remembered(gradient.shape, gradient.clone))


def into_a_buffer(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out = masked(q, k, v, **rest)
    buffer = remembered(out.shape, lambda: torch.empty_like(out))
    return buffer.copy_(out)


def into_two_buffers_in_turn(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out = masked(q, k, v, **rest)
    listed.append(None)
    buffer = remembered((out.shape, len(listed) % 2), lambda: torch.empty_like(out))
    return buffer.copy_(out)


def grad_into_a_buffer(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004  # torch's signature
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004  # torch's signature
            buffer = remembered(gradient.shape, lambda: torch.zeros_like(gradient))
            return buffer.copy_(gradient)

    return masked(q, k, Same.apply(v), **rest)  # type: ignore[no-untyped-call]  # torch gives it no types


def noisy(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out = masked(q, k, v, **rest)
    return out + torch.randn(out.shape, generator=GENERATOR) * 5e-8


def dropping_a_little(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return plain(q, k, v * (1 + 1e-7 * (torch.rand_like(v) > 0.5)), **rest)


noisy_backwards = backwards(lambda gradient: gradient + torch.randn_like(gradient) * 1e-7)


def scores_kept(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    listed.append((q @ k.mT).detach())
    return masked(q, k, v, **rest)


def outputs_kept(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out = masked(q, k, v, **rest)
    kept[len(kept)] = out[..., :1]
    return out


def keeping_gradients(gradient: Tensor) -> Tensor:
    listed.append(gradient * 2)
    return gradient


gradients_kept = backwards(keeping_gradients)


def one_kept(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    kept["last"] = (q @ k.mT).detach()
    return masked(q, k, v, **rest)


def cyclic(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    ring: list[Any] = [q * 2]
    ring.append(ring)
    return masked(q, k, v, **rest)


class Lazy(Tensor):
    """Computes when it is read: what makes it takes no time."""

    work: Callable[[], Tensor]

    @staticmethod
    def __new__(cls, work: Callable[[], Tensor], like: Tensor) -> Self:
        made = torch.Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype, device=like.device)
        made.work = work
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]  # torch's stub names more
        args = [one.work() if isinstance(one, Lazy) else one for one in args]
        return func(*args, **(kwargs or {}))


def lazily(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return Lazy(lambda: masked(q, k, v, **rest), q)


def negating_when_read(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return torch._neg_view(-masked(q, k, v, **rest))


def sparse(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return masked(q, k, v, **rest).to_sparse()


def leaving(change: Callable[[], object]) -> Work:
    """Return the plain kernel, which changes something for whoever calls it."""

    def kernel(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        out = masked(q, k, v, **rest)
        change()
        return out

    return kernel


seeding = leaving(lambda: torch.manual_seed(0))
drawing_in_python = leaving(random.random)
drawing_in_numpy = leaving(np.random.random)  # the old generator is what callers share
fewer_threads = leaving(lambda: torch.set_num_threads(3))
grad_mode = leaving(lambda: torch.set_grad_enabled(not torch.is_grad_enabled()))
double_by_default = leaving(lambda: torch.set_default_dtype(torch.float64))
less_precise = leaving(lambda: torch.set_float32_matmul_precision("medium"))
without_flash = leaving(lambda: torch.backends.cuda.enable_flash_sdp(False))


def other_in_inference_mode(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    if torch.is_inference_mode_enabled():
        rest |= {"causal": False}
    return masked(q, k, v, **rest)


class WritesWhatItSaved(torch.autograd.Function):
    """Multiplies, and its backward pass uses a saved tensor as its own memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x * factor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (factor,) = ctx.saved_tensors
        return factor.data.mul_(gradient).clone(), None


def wrong_twice(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out = masked(q, k, v, **rest)
    return WritesWhatItSaved.apply(out, torch.full_like(out, 1.0))  # type: ignore[no-untyped-call,no-any-return]


class FreesWhatItSaved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.kept = x.detach() * 1
        return x * 1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        kept, ctx.kept = ctx.kept, None
        return gradient + 0 * kept


def raising_twice(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return FreesWhatItSaved.apply(masked(q, k, v, **rest))  # type: ignore[no-untyped-call,no-any-return]


def tuning_each_length(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    if q.shape not in kept:
        kept[q.shape] = True
        time.sleep(0.15)
    return masked(q, k, v, **rest)


def warming_up_once(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    if not kept:
        time.sleep(0.15)
        kept["warm"] = True
    return masked(q, k, v, **rest)


def wrong_at_first(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out = masked(q, k, v, **rest)
    if q.shape not in kept:
        kept[q.shape] = True
        return out * 1.5
    return out


def transposed_in_memory(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return masked(q, k, v, **rest).mT.contiguous().mT


def of_a_larger_buffer(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out = masked(q, k, v, **rest)
    return torch.stack([out] * 9)[4]


def inverting_the_mask(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor, **rest: Any) -> Tensor:
    hidden = mask.logical_not_()
    out = masked(q, k, v, mask=~hidden, **rest)
    mask.logical_not_()
    return out


def summing_unwritten(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out = masked(q, k, v, **rest)
    return out.new_empty(out.shape).mul_(0) + out if out.requires_grad else out.new_empty(out.shape).add_(out)


def weighing_unwritten(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out = masked(q, k, v, **rest)
    return out + 0 * torch.empty_strided(out.shape, out.stride())


def choosing_by_unwritten(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    fresh = torch.empty(q.shape[-2])
    return masked(q, k, v, **rest) + (fresh.max() > 100).to(q.dtype)  # NaN is not above it


def growing(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out = masked(q, k, v, **rest)
    return out + 0 * torch.zeros(1).resize_(64).sum()


@torch.library.custom_op("silent_calls::accumulated", mutates_args=())
def accumulated(x: Tensor) -> Tensor:
    """Add to memory that nobody wrote, where no dispatch mode looks from outside."""
    return x.new_empty(x.shape).mul_(0).add_(x)


def inside_an_operator(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    out: Tensor = accumulated(masked(q, k, v, **rest))
    return out


unwritten_backwards = backwards(lambda gradient: torch.empty_like(gradient).mul_(0).add_(gradient))


def uncompiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out: Tensor = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
    return out


def unwritten_in_compiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
    return torch.empty_like(out).mul_(0).add_(out)


def compiled_with(function: Work, **options: Any) -> Work:
    """Return a kernel of code of its own, as each side has: what is compiled is kept with the code."""
    own = FunctionType(function.__code__.replace(), function.__globals__)
    compiled = torch.compile(own, backend="eager", **options)

    def kernel(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        out: Tensor = compiled(q, k, v)
        return out

    return kernel


def over_the_batch(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
    return masked(q, k, v, **rest) * (1 + 1.2e-7 * (q.shape[0] > 1))


FWD, BOTH = "b1h2t24d8-full-fp32-cpu-fwd", "b1h2t24d8-full-fp32-cpu-fwdbwd"
CAUSAL = "b1h2t24d8-causal-fp32-cpu-fwd"


def side(label: str, work: Work | type) -> Side:
    if isinstance(work, type):
        return Side(label, {}, {"k": work})
    return Side(label, {"k": Kernel("k", work, Capabilities())}, {})


def verdict(head: Work | type, case: str, base: Work | type = plain) -> tuple[Verdict, str]:
    """Check both sides, time nothing, and say what is said."""
    if isinstance(head, type) and base is plain:
        base = attention.MultiHeadAttention
    shape, mask, dtype, device, direction = case.split("-")
    of = Case("k", isinstance(head, type), Shape.parse(shape), mask, dtype, device, direction)
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
UNWRITTEN = "depends on memory that nobody wrote"


@pytest.mark.parametrize(
    ("work", "case", "wanted", "reason"),
    [
        *((work, FWD, Verdict.DRIFTED, f"out: {EARLIER}") for work in (by_address, by_identity, by_shape, by_version)),
        (by_address, "b2h4kv2t16k24d8v4-causalfloatmask-bf16-cpu-fwd", Verdict.DRIFTED, f"out: {EARLIER}"),
        (from_the_second_call_on, FWD, Verdict.DRIFTED, f"out: {EARLIER}"),
        (values_by_address, "b1h2t24d8-full-fp16-cpu-fwd", Verdict.DRIFTED, f"out: {EARLIER}"),
        (mask_by_address, "b2h2t24d8-floatmask-fp32-cpu-fwd", Verdict.DRIFTED, f"out: {EARLIER}"),
        (mask_by_address, "b2h2t24d8-learnedmask-fp32-cpu-fwd", Verdict.DRIFTED, f"out: {EARLIER}"),
        (bool_mask_by_shape, "b2h2t24d8-boolmask-fp32-cpu-fwdbwd", Verdict.DRIFTED, f"out: {EARLIER}"),
        (scores_by_shape, FWD, Verdict.DRIFTED, f"out: {EARLIER}"),
        (gradient_by_address, BOTH, Verdict.DRIFTED, f"dq: {EARLIER}"),
        (gradient_by_shape, BOTH, Verdict.DRIFTED, f"dv: {EARLIER}"),
        (into_a_buffer, FWD, Verdict.ERROR, f"{OVERWRITES}: out"),
        (into_two_buffers_in_turn, FWD, Verdict.ERROR, f"{OVERWRITES}: out"),
        (grad_into_a_buffer, BOTH, Verdict.ERROR, f"{OVERWRITES}: dv"),
        (noisy, FWD, Verdict.CHANGED, rf"{REPEATS} \(out\)"),
        (dropping_a_little, BOTH, Verdict.CHANGED, rf"{REPEATS} \(out, .*dv\)"),
        (noisy_backwards, BOTH, Verdict.CHANGED, rf"{REPEATS} \(dq, dk, dv\)"),
        (scores_kept, FWD, Verdict.CHANGED, f"keeps {2 * 24 * 24 * 4} bytes a call alive"),
        (outputs_kept, FWD, Verdict.CHANGED, f"keeps {2 * 24 * 8 * 4} bytes a call alive"),
        (gradients_kept, BOTH, Verdict.CHANGED, f"keeps {2 * 24 * 8 * 4} bytes a call alive"),
        (one_kept, FWD, Verdict.UNCHANGED, f"keeps {2 * 24 * 24 * 4} bytes alive between calls, and the base 0"),
        (cyclic, FWD, Verdict.CHANGED, f"{2 * 24 * 8 * 4} bytes a call wait for garbage collection"),
        (lazily, FWD, Verdict.ERROR, "head returns out as a Lazy: return a plain tensor on cpu"),
        (negating_when_read, FWD, Verdict.ERROR, "head returns out as a view that negates"),
        (sparse, FWD, Verdict.ERROR, "head returns out as a tensor of layout torch.sparse_coo"),
        (seeding, FWD, Verdict.CHANGED, "leaves torch's random generator changed"),
        (drawing_in_python, FWD, Verdict.CHANGED, "leaves Python's random generator changed"),
        (drawing_in_numpy, BOTH, Verdict.CHANGED, "leaves NumPy's random generator changed"),
        (fewer_threads, FWD, Verdict.CHANGED, "leaves the number of threads changed"),
        (grad_mode, FWD, Verdict.CHANGED, "leaves the gradient mode changed"),
        (double_by_default, FWD, Verdict.CHANGED, "leaves the default dtype changed"),
        (less_precise, FWD, Verdict.CHANGED, "leaves the precision of float32 products changed"),
        (without_flash, FWD, Verdict.CHANGED, "leaves SDPA's flash backend changed"),
        (other_in_inference_mode, CAUSAL, Verdict.DRIFTED, "out: is another in inference mode"),
        (wrong_twice, BOTH, Verdict.DRIFTED, "dv: is wrong in a second backward pass"),
        (raising_twice, BOTH, Verdict.CHANGED, "a second backward pass through the same graph raises"),
        (tuning_each_length, FWD, Verdict.CHANGED, r"first call at a new length .* ms -> 1[45]\d ms"),
        (warming_up_once, FWD, Verdict.UNCHANGED, ""),
        (wrong_at_first, FWD, Verdict.DRIFTED, "out: is wrong at the first call of a length"),
        (transposed_in_memory, FWD, Verdict.CHANGED, r"strides of the output \(0, 192, 8, 1\) -> \(0, 192, 1, 24\)"),
        (of_a_larger_buffer, FWD, Verdict.CHANGED, f"the output keeps {9 * 2 * 24 * 8 * 4} bytes alive, and the base"),
        (inverting_the_mask, "b1h2t24d8-boolmask-fp32-cpu-fwd", Verdict.ERROR, "head wrote to its inputs"),
        (summing_unwritten, FWD, Verdict.DRIFTED, f"out: {UNWRITTEN}"),
        (weighing_unwritten, BOTH, Verdict.DRIFTED, f"out: {UNWRITTEN}"),
        (choosing_by_unwritten, FWD, Verdict.DRIFTED, f"out: {UNWRITTEN}"),
        (growing, FWD, Verdict.DRIFTED, f"out: {UNWRITTEN}"),
        (inside_an_operator, FWD, Verdict.DRIFTED, f"out: {UNWRITTEN}"),
        (unwritten_backwards, BOTH, Verdict.DRIFTED, f"dk: {UNWRITTEN}"),
        (over_the_batch, "b2h2t24d8-full-fp32-cpu-fwd", Verdict.UNCHANGED, "an item's result depends on the rest"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_kind_is_named(work: Work, case: str, wanted: Verdict, reason: str) -> None:
    found, reasons = verdict(work, case)
    assert found is wanted, reasons
    assert re.search(reason, reasons), reasons


class KeepsResult(attention.MultiHeadAttention):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        return remembered(x.data_ptr(), lambda: super(KeepsResult, self).forward(x, **given))


class KeepsResultByShape(attention.MultiHeadAttention):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        if getattr(self, "shape", None) != x.shape:
            self.shape, self.out = x.shape, super().forward(x, *rest, **given)
        return self.out


class KeepsInput(attention.MultiHeadAttention):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        if getattr(self, "key", None) != id(x):
            self.key, self.x = id(x), x.detach().clone()
        return super().forward(self.x if not x.requires_grad else x, **given)


class KeepsWeights(attention.MultiHeadAttention):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        out = super().forward(x, *rest, **given)
        if not hasattr(self, "bias"):
            self.bias = self.out_proj.bias.detach().clone()
        return out - self.out_proj.bias.detach() + self.bias


class NotCausalInEvaluation(attention.MultiHeadAttention):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        return super().forward(x, *rest, **given | ({} if self.training else {"causal": False}))


class KeepsScores(attention.MultiHeadAttention):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        self.scores = [*getattr(self, "scores", []), x.detach() @ x.detach().mT]
        return super().forward(x, *rest, **given)


class KeepsBlockScores(attention.TransformerBlock):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        listed.append(x.detach() @ x.detach().mT)
        return super().forward(x, *rest, **given)


class UsesBuffer(attention.MultiHeadAttention):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        out = super().forward(x, *rest, **given)
        if not hasattr(self, "buffer"):
            self.buffer = torch.empty_like(out)
        return self.buffer.copy_(out) if not out.requires_grad else out


class Noisy(attention.MultiHeadAttentionLoop):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        out = super().forward(x, *rest, **given)
        return out + 1e-7 * torch.rand_like(out)


class Unwritten(attention.MultiHeadAttention):
    def forward(self, x: Tensor, *rest: Any, **given: Any) -> Tensor:
        out = super().forward(x, *rest, **given)
        return torch.empty_like(out).mul_(0).add_(out)


SIZES = "b2h4kv2t24d8"


@pytest.mark.parametrize(
    ("work", "base", "case", "wanted", "reason"),
    [
        (KeepsResult, "mha", "causal-fp32-cpu-fwd", Verdict.DRIFTED, f"out: {EARLIER}"),
        (KeepsResultByShape, "mha", "boolmask-fp32-cpu-fwd", Verdict.DRIFTED, f"out: {EARLIER}"),
        (KeepsInput, "mha", "causal-bf16-cpu-fwd", Verdict.DRIFTED, f"out: {EARLIER}"),
        (KeepsWeights, "mha", "full-fp32-cpu-fwdbwd", Verdict.DRIFTED, f"out: {EARLIER}"),
        (NotCausalInEvaluation, "mha", "causal-fp32-cpu-fwd", Verdict.DRIFTED, "out: is another in evaluation"),
        (NotCausalInEvaluation, "mha", "causal-bf16-cpu-fwdbwd", Verdict.DRIFTED, "out: is another in evaluation"),
        (KeepsScores, "mha", "causal-fp32-cpu-fwdbwd", Verdict.CHANGED, "keeps 4608 bytes a call alive"),
        (KeepsBlockScores, "block", "causal-fp32-cpu-fwd", Verdict.CHANGED, "keeps 4608 bytes a call alive"),
        (UsesBuffer, "mha", "causal-fp32-cpu-fwd", Verdict.ERROR, f"{OVERWRITES}: out"),
        (Noisy, "mhaloop", "causal-fp32-cpu-fwdbwd", Verdict.CHANGED, rf"{REPEATS} \(out\)"),
        (Unwritten, "mha", "causal-fp32-cpu-fwdbwd", Verdict.DRIFTED, f"out: {UNWRITTEN}"),
    ],
)
def test_each_kind_is_named_in_modules(work: type, base: str, case: str, wanted: Verdict, reason: str) -> None:
    found, reasons = verdict(work, f"{SIZES}-{case}", attention.MODULES[base])
    assert found is wanted, reasons
    assert re.search(reason, reasons), reasons


def test_what_neither_side_repeats_is_a_note() -> None:
    found, reasons = verdict(noisy, FWD, noisy)
    assert found is Verdict.UNCHANGED
    assert "base and head do not repeat bit for bit" in reasons
    assert "repeats bit for bit now" in verdict(plain, FWD, noisy)[1]


def test_a_base_that_repeated_by_luck_gets_more_chances_before_the_head_is_blamed() -> None:
    def seldom_noisy(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        listed.append(None)
        return (noisy if len(listed) % 7 == 0 else plain)(q, k, v, **rest)

    found, reasons = verdict(noisy, FWD, seldom_noisy)
    assert found is Verdict.UNCHANGED, reasons
    assert "base and head do not repeat bit for bit" in reasons


@pytest.mark.parametrize(
    ("work", "case", "note"),
    [
        (by_address, FWD, "the base's out belongs to earlier inputs"),
        (from_the_second_call_on, FWD, "the base's out belongs to earlier inputs"),
        (into_a_buffer, FWD, "the base's out is memory that its next call overwrites"),
        (unwritten_backwards, BOTH, "the base's dq, dk, dv depends on memory that nobody wrote"),
        (scores_kept, FWD, "keeps 0 bytes a call alive, and the base 4608"),
        (wrong_at_first, FWD, "the base's out is wrong at the first call of a length"),
        (wrong_twice, BOTH, "the base's dq, dk, dv is wrong in a second backward pass"),
        (tuning_each_length, FWD, ""),
    ],
)
def test_what_the_base_does_wrong_is_a_note_and_fails_no_head_that_mends_it(work: Work, case: str, note: str) -> None:
    found, reasons = verdict(plain, case, work)
    assert found is Verdict.UNCHANGED, reasons
    assert note in reasons


@pytest.mark.parametrize("options", [{"dynamic": True}, {"dynamic": None}])
def test_a_kernel_that_compiles_for_each_length_has_changed(options: dict[str, Any]) -> None:
    base, head = compiled_with(uncompiled, **options), compiled_with(uncompiled, dynamic=False)
    found, reasons = verdict(head, FWD, base)
    assert found is Verdict.CHANGED
    assert "compiles for each length" in reasons
    assert "compiles for each length" not in verdict(base, FWD, base)[1]
    assert "compiles for each length no longer" in verdict(base, FWD, head)[1]


def test_compiled_code_is_watched_too() -> None:
    base = compiled_with(uncompiled, dynamic=True)
    kernel = compiled_with(uncompiled, dynamic=True)

    def leaks(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        out: Tensor = kernel(q, k, v)
        listed.append(out * 2)
        return out

    def remembers(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        return remembered(q.data_ptr(), lambda: kernel(q, k, v))

    for work, wanted, reason in (
        (leaks, Verdict.CHANGED, "keeps 1536 bytes a call alive"),
        (remembers, Verdict.DRIFTED, f"out: {EARLIER}"),
        (compiled_with(unwritten_in_compiled, dynamic=True), Verdict.DRIFTED, f"out: {UNWRITTEN}"),
    ):
        found, reasons = verdict(work, FWD, base)
        assert found is wanted, reasons
        assert reason in reasons
