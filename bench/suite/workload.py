"""The work of one case: its input tensors, and calls that do that work on one side."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from .cases import DTYPES, FORMULAS, Case
from .inputs import LARGE_SCORES, NORMAL_SCORE, enlarge, laid_out, mask, upstream_laid_out
from .side import Side

BLOCK_SCORES = 2**26  # of a case that has more, oracle and yardstick are computed in blocks of so many, or of one head
# Score matrices alive at the peak of the naive yardstick, forward and backward, and of the float64 oracle of one batch
# item. The estimate made of them was compared with measured peaks, and is above them.
_YARDSTICK_SCORES = {"fwd": 4, "fwdbwd": 8}
_ORACLE_SCORES = {"fwd": 5, "fwdbwd": 8}

WROTE = "wrote to its inputs"
Marks = tuple[int, bool, bool]  # of a tensor: torch's count of writes to it, requires_grad, and whether it has a grad


@dataclass(frozen=True)
class Workload:
    """The tensors of one case, rounded to its dtype, on its device.

    ``inputs`` holds the tensors of which gradients are taken: q, k, v of a kernel (shapes as
    ``attention.Kernel.__call__``), ``sinks`` and a learned ``mask`` among them, or x (B, T, E) and the parameters of a
    module. ``frozen`` holds the parameters of a module's norms: PyTorch sums their gradients over all tokens with an
    error of its own, which says nothing about attention. ``upstream`` is the gradient that reaches the output.
    """

    case: Case
    inputs: Mapping[str, Tensor]
    mask: Tensor | None
    upstream: Tensor
    frozen: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def d_feedforward(self) -> int:
        """The width of a Transformer block's feed-forward layer; 0 where there is none."""
        weight = self.inputs.get("linear1.weight")
        return 0 if weight is None else weight.shape[0]

    @property
    def looser(self) -> float:
        """How many times larger than normal scores are, and so the errors of their rounding may be."""
        shape = self.case.shape
        large = LARGE_SCORES[self.case.dtype] / NORMAL_SCORE if shape.scores == "large" else 1.0
        return max(large, 0.0 if shape.scale is None else abs(shape.scale) * shape.head_size**0.5)

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor that a side is given."""
        mask = [] if self.mask is None else [self.mask]
        return [*self.inputs.values(), *self.frozen.values(), self.upstream, *mask]

    def snapshot(self) -> list[tuple[Tensor, Marks]]:
        """Copy every tensor that a side is given, with its marks."""
        return [(t.detach().clone(), _marks(t)) for t in self.tensors]

    def differs_from(self, snapshot: list[tuple[Tensor, Marks]]) -> str | None:
        """Say what was done to a tensor since the snapshot, even if its values were put back; None if nothing."""
        for t, (copy, (version, *flags)) in zip(self.tensors, snapshot, strict=True):
            now, *flags_now = _marks(t)
            if now != version or not torch.equal(t, copy):
                return WROTE
            if flags_now != flags:
                return "changed requires_grad or grad of its inputs"
        return None


@dataclass(frozen=True)
class Call:
    """One side's way to do the work of a case: calling it is what gets timed.

    ``names`` are those of the gradients of the ``leaves``: ``dq``, ...
    """

    forward: Callable[[], Tensor]
    leaves: list[Tensor]
    names: list[str]
    upstream: Tensor
    backward: bool
    tried_longer: set[str] = field(default_factory=set)  # subjects of the side that were called at other lengths
    module: torch.nn.Module | None = None

    def __call__(self) -> None:
        if self.backward:
            torch.autograd.grad(self.forward(), self.leaves, self.upstream)
        else:
            self.forward()

    def differentiate(self, out: Tensor) -> dict[str, Tensor]:
        """Take the gradients of the leaves from the output of ``forward``, by name."""
        return dict(zip(self.names, torch.autograd.grad(out, self.leaves, self.upstream), strict=True))

    def returned(self, *, twice: bool = False) -> dict[str, Tensor]:
        """Do the work once and return its output and gradients, by name: ``out``, ``dq``, ...

        ``twice``: the gradients are those of a second backward pass through the same graph.
        """
        returned = {"out": (out := self.forward())}
        if self.backward:
            if twice:
                torch.autograd.grad(out, self.leaves, self.upstream, retain_graph=True)
            returned |= self.differentiate(out)
        return returned

    def results(self, *, twice: bool = False) -> dict[str, Tensor]:
        """Do the work as ``returned`` does, and keep nothing but the values of its results."""
        return {name: t.detach() for name, t in self.returned(twice=twice).items()}


def bytes_needed(case: Case) -> int:
    """Estimate the peak of memory that checking and timing the case takes, which the score matrices dominate."""
    shape = case.shape
    item = shape.heads * shape.queries * shape.keys  # scores
    every = shape.batch * item
    if case.device == "cuda" and case.subject not in FORMULAS and not case.module:  # its calls hold few scores
        block = max(BLOCK_SCORES, item // max(1, shape.kv_heads))
        item, every = min(item, block), min(every, block)
    size = max(shape.head_size, shape.value_size)
    tokens = shape.batch * (shape.heads * shape.queries + 2 * shape.kv_heads * shape.keys) * size
    itemsize = DTYPES[case.dtype].itemsize
    yardstick = every * itemsize * _YARDSTICK_SCORES[case.direction]
    return yardstick + item * 8 * _ORACLE_SCORES[case.direction] + tokens * (itemsize + 8) * 4


def parameter_sizes(case: Case, side: Side) -> dict[str, torch.Size]:
    """Return the sizes of the parameters of a case's module, by name, in its order; a kernel has none.

    Raises:
        Exception: whatever building the module raises.

    """
    return {name: p.shape for name, p in _module(case, side).named_parameters()} if case.module else {}


def build(case: Case, parameters: Mapping[str, torch.Size], attempt: int = 0) -> Workload:
    """Make the tensors of a case: standard normal, seeded by the case's id and the attempt, so both sides share them.

    ``parameters`` are the sizes of those of the head's module.
    """
    shape, dtype = case.shape, DTYPES[case.dtype]
    generator = torch.Generator().manual_seed(zlib.crc32(f"{case.id}#{attempt}".encode()))

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    def given(tensor: Tensor) -> Tensor:
        return tensor.to(dtype).to(case.device)

    drawn: dict[str, Tensor] = {}
    frozen: dict[str, Tensor] = {}
    if case.module:
        inputs = {"x": normal(shape.batch, shape.queries, shape.heads * shape.head_size)}
        for name, size in parameters.items():
            values = _parameter(name, size, generator)
            (frozen if name.startswith("norm") else drawn)[name] = given(values)
        out_shape = tuple(inputs["x"].shape)
    else:
        kv_size = shape.batch, shape.kv_heads, shape.keys
        q, k = normal(shape.batch, shape.heads, shape.queries, shape.head_size), normal(*kv_size, shape.head_size)
        v = normal(*kv_size, shape.value_size)
        v = v if shape.values == 1 else v.abs() * shape.values
        q, k = enlarge(case, q, k)
        inputs = {"q": q, "k": k, "v": v}
        if shape.sinks:
            drawn["sinks"] = given(normal(shape.heads))
        out_shape = (*q.shape[:3], shape.value_size)
    made = mask(case, generator)
    if case.mask_shape is not None and case.hiding.learned:
        drawn["mask"] = given(normal(*case.mask_shape))
    inputs = laid_out({name: given(t) for name, t in inputs.items()}, shape.layout) | drawn
    return Workload(
        case,
        {name: t.detach().requires_grad_(case.backward) for name, t in inputs.items()},
        made,
        upstream_laid_out(given(normal(*out_shape)), shape.layout),
        frozen,
    )


def bind(workload: Workload, side: Side) -> Call:
    """Make the call that does the work on one side.

    Raises:
        Exception: whatever building the side's module raises, parameters of another name or shape included.

    """
    case, inputs = workload.case, workload.inputs
    mask, causal = inputs.get("mask", workload.mask), case.hiding.causal
    module, leaves = None, inputs
    if case.module:
        module = _module(case, side)
        parameters = {name: t for name, t in inputs.items() if name not in {"x", "mask"}}
        module.load_state_dict({**parameters, **workload.frozen}, assign=True)
        own = dict(module.named_parameters())
        for name, parameter in own.items():
            parameter.requires_grad_(case.backward and name in parameters)
        leaves = {name: own.get(name, t) for name, t in inputs.items()}
        forward = partial(module, inputs["x"], mask=mask, causal=causal)
    else:
        # Options that the case does not need are not passed: an older side may not know them.
        shape, sinks = case.shape, inputs.get("sinks")
        asked = {"window": case.hiding.window, "scale": shape.scale, "softcap": shape.softcap, "sinks": sinks}
        options = {name: value for name, value in asked.items() if value is not None}
        q, k, v = inputs["q"], inputs["k"], inputs["v"]
        forward = partial(side.kernels[case.subject], q, k, v, mask=mask, causal=causal, **options)
    names = [f"d{name}" for name in inputs]
    return Call(forward, list(leaves.values()), names, workload.upstream, case.backward, side.tried_longer, module)


def _marks(tensor: Tensor) -> Marks:
    return tensor._version, tensor.requires_grad, tensor.grad is not None  # noqa: SLF001  # it has no public name


def _module(case: Case, side: Side) -> torch.nn.Module:
    shape = case.shape
    module: torch.nn.Module = side.modules[case.subject](
        shape.heads * shape.head_size, shape.heads, n_kv_heads=shape.kv_heads
    )
    return module.to(case.device, DTYPES[case.dtype])


def _parameter(name: str, size: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw a module's parameter: weights whose rows have unit length, which keep every projection standard normal.

    Gains of norms are about one. A feature before the ReLU is biased away from zero, where the last bit of a sum would
    decide a gradient.
    """
    values = torch.randn(size, generator=generator).mul_(size[-1] ** -0.5)
    if name.endswith("weight") and len(size) == 1:
        return values.add_(1)
    return values.sign_().mul_(4) if name == "linear1.bias" else values
