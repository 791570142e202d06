"""What is right, and what error is normal: the float64 oracle and the naive yardstick of a case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .cases import Case
from .naive import Attend, naive_attention, naive_module
from .workload import BLOCK_SCORES, Call, Workload


def oracle(workload: Workload) -> dict[str, Tensor]:
    """The exact output and gradients, float64, block by block so that memory does not grow with the batch."""
    from attention.oracle import reference  # noqa: PLC0415  # of the suite, where an examiner finds it

    return _by_blocks(workload, blocks(workload.case, by_item=True), reference, torch.float64)


def yardstick(workload: Workload) -> dict[str, Tensor]:
    """The output and gradients of the naive yardstick, in the case's dtype, at once where memory allows it."""
    return _by_blocks(workload, blocks(workload.case), naive_attention)


@dataclass(frozen=True)
class Block:
    """Items of a batch, and heads of the keys with the queries' heads that read them; a module's heads are together."""

    items: slice
    kv_heads: slice
    heads: slice

    def of(self, name: str, tensor: Tensor, case: Case) -> tuple[slice, ...]:
        """Return where the block lies in an input: everything where it serves every item or head, as parameters do."""
        batch = self.items if tensor.dim() == 4 and tensor.shape[0] == case.shape.batch else _ALL
        if name in ("k", "v"):
            return batch, self.kv_heads
        if name == "q" or (name == "mask" and tensor.dim() == 4 and tensor.shape[1] > 1):
            return batch, self.heads
        if name == "sinks":
            return (self.heads,)
        return (self.items,) if name == "x" else (batch,)


_ALL = slice(None)


def blocks(case: Case, *, by_item: bool = False) -> list[Block]:
    """Cut the work of a case into blocks of at most ``BLOCK_SCORES`` scores, or of one head of the keys."""
    shape = case.shape
    group, scores = shape.heads // max(1, shape.kv_heads), shape.queries * shape.keys
    together = max(1, BLOCK_SCORES // max(1, scores * group))  # heads of the keys
    if case.module or together >= shape.kv_heads * (1 if by_item else shape.batch):
        heads = [(_ALL, _ALL)]
    else:
        by_item = True
        starts = range(0, shape.kv_heads, together)
        heads = [(slice(at, at + together), slice(at * group, (at + together) * group)) for at in starts]
    items = [slice(i, i + 1) for i in range(shape.batch)] if by_item else [_ALL]
    return [Block(item, kv_heads, of_q) for item in items for kv_heads, of_q in heads]


def _by_blocks(
    workload: Workload, cut: Sequence[Block], attend: Attend, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Do the work block by block, in a dtype or in that of each input, and put the results together."""
    case, mask = workload.case, workload.mask
    results: dict[str, Tensor] = {}
    for block in cut:
        where = {name: block.of(name, t, case) for name, t in workload.inputs.items()}
        inputs = {
            name: t[where[name]].detach().to(dtype or t.dtype).requires_grad_(case.backward)
            for name, t in workload.inputs.items()
        }
        where = {f"d{name}": at for name, at in where.items()}
        where["out"] = (block.items,) if case.module else (block.items, block.heads)
        upstream = workload.upstream[where["out"]]
        visible = None if mask is None else mask[block.of("mask", mask, case)]
        call = Call(
            partial(attended, workload, inputs, visible, attend),
            list(inputs.values()),
            [f"d{name}" for name in inputs],
            upstream.to(dtype or upstream.dtype),
            case.backward,
        )
        for name, result in call.results().items():
            if len(cut) == 1:
                results[name] = result
            else:
                whole = workload.upstream if name == "out" else workload.inputs[name[1:]]
                results.setdefault(name, result.new_zeros(whole.shape))[where[name]] += result
    return results


def attended(workload: Workload, inputs: Mapping[str, Tensor], mask: Tensor | None, attend: Attend) -> Tensor:
    """Do the case's work by the gate's own code, with ``attend`` as its attention."""
    hiding, shape = workload.case.hiding, workload.case.shape
    mask = inputs.get("mask", mask)
    if workload.case.module:
        x, heads = inputs["x"], {"n_heads": shape.heads, "n_kv_heads": shape.kv_heads}
        parameters = {**inputs, **{name: t.to(x.dtype) for name, t in workload.frozen.items()}}
        return naive_module(x, parameters, partial(attend, mask=mask, causal=hiding.causal), **heads)
    q, k, v = inputs["q"], inputs["k"], inputs["v"]
    return attend(
        q,
        k,
        v,
        mask=mask,
        causal=hiding.causal,
        scale=shape.scale,
        window=hiding.window,
        softcap=shape.softcap,
        sinks=inputs.get("sinks"),
    )
