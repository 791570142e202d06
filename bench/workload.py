"""The work of one case: its input tensors, and calls that do that work on one side."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .cases import DTYPES, Case
from .naive import Attend, naive_multihead
from .sides import Side

# Score matrices alive at the peak of the naive yardstick, forward and backward, and of the float64 oracle of one
# batch item; held against the peak that was measured, and above it.
_YARDSTICK_SCORES = {"fwd": 4, "fwdbwd": 8}
_ORACLE_SCORES = {"fwd": 5, "fwdbwd": 8}


@dataclass(frozen=True)
class Workload:
    """The tensors of one case, rounded to its dtype, on its device.

    ``inputs`` holds q, k, v of a kernel (shapes as ``attention.Kernel.__call__``), or x (B, T, E) and the parameters
    of a module; they are what gradients are taken of. ``upstream`` is the gradient that reaches the output.
    """

    case: Case
    inputs: Mapping[str, Tensor]
    mask: Tensor | None
    upstream: Tensor

    @property
    def leaves(self) -> list[Tensor]:
        return list(self.inputs.values())

    def forward(self, inputs: Mapping[str, Tensor], mask: Tensor | None, attend: Attend) -> Tensor:
        """Do the case's work by the instrument's own code around ``attend``: the oracle and the yardstick."""
        hiding, shape = self.case.hiding, self.case.shape
        causal = hiding.causal
        if not self.case.module:
            return attend(inputs["q"], inputs["k"], inputs["v"], mask=mask, causal=causal, window=hiding.window)
        return naive_multihead(
            inputs["x"], inputs, attend, n_heads=shape.heads, n_kv_heads=shape.kv_heads, mask=mask, causal=causal
        )

    def snapshot(self) -> list[Tensor]:
        """Copy every tensor a side is given, to find out later whether it wrote to one."""
        return [t.detach().clone() for t in self._given()]

    def differs_from(self, snapshot: list[Tensor]) -> bool:
        return not all(torch.equal(t, s) for t, s in zip(self._given(), snapshot, strict=True))

    def _given(self) -> list[Tensor]:
        return [*self.leaves, self.upstream, *([] if self.mask is None else [self.mask])]


@dataclass(frozen=True)
class Call:
    """One side's way to do the work of a case: calling it is what gets timed."""

    forward: Callable[[], Tensor]
    leaves: list[Tensor]
    names: list[str]
    upstream: Tensor
    backward: bool

    def __call__(self) -> None:
        if self.backward:
            torch.autograd.grad(self.forward(), self.leaves, self.upstream)
        else:
            self.forward()

    def differentiate(self, out: Tensor) -> tuple[Tensor, ...]:
        """Take the gradients of the leaves from the output of ``forward``."""
        return torch.autograd.grad(out, self.leaves, self.upstream)

    def results(self) -> dict[str, Tensor]:
        """Do the work once and keep its output and gradients, by name: ``out``, ``dq``, ..."""
        out = self.forward()
        results = {"out": out.detach()}
        if self.backward:
            results |= {f"d{name}": g for name, g in zip(self.names, self.differentiate(out), strict=True)}
        return results


def bytes_needed(case: Case) -> int:
    """Estimate the peak of memory that checking and timing the case takes, which the score matrices dominate."""
    shape = case.shape
    scores = shape.heads * shape.queries * shape.keys
    tokens = shape.batch * (shape.heads * shape.queries + 2 * shape.kv_heads * shape.keys) * shape.head_size
    itemsize = DTYPES[case.dtype].itemsize
    yardstick = shape.batch * scores * itemsize * _YARDSTICK_SCORES[case.direction]
    return yardstick + scores * 8 * _ORACLE_SCORES[case.direction] + tokens * (itemsize + 8) * 4


def build(case: Case, head: Side, attempt: int = 0) -> Workload:
    """Make the tensors of a case: standard normal, seeded by the case's id and the attempt, so both sides share them.

    Raises:
        Exception: whatever building the head's module raises.

    """
    shape, dtype = case.shape, DTYPES[case.dtype]
    generator = torch.Generator().manual_seed(zlib.crc32(f"{case.id}#{attempt}".encode()))

    def normal(*size: int) -> Tensor:
        tensor = torch.randn(size, generator=generator).to(dtype).to(case.device)
        return tensor.requires_grad_(case.backward)

    if case.module:
        module = _module(case, head)
        inputs = {"x": normal(shape.batch, shape.queries, shape.heads * shape.head_size)}
        for name, parameter in module.named_parameters():
            # A weight's rows of unit length keep every projection standard normal.
            weight = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
            inputs[name] = weight.to(dtype).to(case.device).requires_grad_(case.backward)
    else:
        kv_size = (shape.batch, shape.kv_heads, shape.keys, shape.head_size)
        q = normal(shape.batch, shape.heads, shape.queries, shape.head_size)
        inputs = {"q": q, "k": normal(*kv_size), "v": normal(*kv_size)}
    mask = _mask(case, generator)
    out_shape = inputs["x" if case.module else "q"].shape  # D = Dv
    upstream = torch.randn(out_shape, generator=generator).to(dtype).to(case.device)
    return Workload(case, inputs, mask, upstream)


def bind(workload: Workload, side: Side) -> Call:
    """Make the call that does the work on one side.

    Raises:
        Exception: whatever building the side's module raises, parameters of another name or shape included.

    """
    case, inputs, mask = workload.case, workload.inputs, workload.mask
    causal = case.hiding.causal
    if case.module:
        module = _module(case, side)
        module.load_state_dict({name: t for name, t in inputs.items() if name != "x"}, assign=True)
        own = dict(module.named_parameters())
        for parameter in own.values():
            parameter.requires_grad_(case.backward)
        x = inputs["x"]
        leaves = [x if name == "x" else own[name] for name in inputs]
        return Call(lambda: module(x, mask=mask, causal=causal), leaves, list(inputs), workload.upstream, case.backward)
    kernel = side.kernels[case.subject]
    q, k, v = inputs["q"], inputs["k"], inputs["v"]
    # A kernel that is asked for no window is not told of windows: its side may not know them.
    window = {} if case.hiding.window is None else {"window": case.hiding.window}
    return Call(
        lambda: kernel(q, k, v, mask=mask, causal=causal, **window),
        workload.leaves,
        list(inputs),
        workload.upstream,
        case.backward,
    )


def _module(case: Case, side: Side) -> torch.nn.Module:
    shape = case.shape
    module: torch.nn.Module = side.modules[case.subject](
        shape.heads * shape.head_size, shape.heads, n_kv_heads=shape.kv_heads
    )
    return module.to(case.device, DTYPES[case.dtype])


def _mask(case: Case, generator: torch.Generator) -> Tensor | None:
    """Make the mask: bool, one key in five hidden and the first query blind; or a bias that falls with distance."""
    shape = case.shape
    kind = case.hiding.kind
    if kind is None:
        return None
    if kind == "bool":
        visible = torch.rand(shape.batch, 1, shape.queries, shape.keys, generator=generator) < 0.8
        visible[:, :, 0] = False
        return visible.to(case.device)
    slopes = 2.0 ** -torch.arange(1, shape.heads + 1)  # as ALiBi's (Press et al. 2022)
    query, key = torch.arange(shape.queries), torch.arange(shape.keys)
    distance = (query[:, None] + (shape.keys - shape.queries) - key).abs()
    return (-slopes[:, None, None] * distance)[None].to(DTYPES[case.dtype]).to(case.device)
