"""What is right, and what error is normal: the float64 oracle and the naive yardstick of a case."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from ..sides.workload import Workload
from .naive import Attend, naive_attention, naive_module


def oracle(workload: Workload) -> dict[str, Tensor]:
    """The exact output and gradients, float64, one batch item at a time so that memory does not grow with the batch."""
    from attention.oracle import reference  # noqa: PLC0415  # of the suite, where an examiner finds it

    inputs, mask = workload.inputs, workload.mask
    batch, mask_shape = workload.case.shape.batch, workload.case.mask_shape or ()
    batched = {"x", "q", "k", "v"}  # parameters, sinks, and masks of no item, serve every item
    if len(mask_shape) == 4 and mask_shape[0] == batch:
        batched.add("mask")
    parts: list[dict[str, Tensor]] = []
    for i in range(batch):
        item = {
            name: (t[i : i + 1] if name in batched else t).detach().double().requires_grad_(workload.case.backward)
            for name, t in inputs.items()
        }
        item_mask = mask[i : i + 1] if mask is not None and mask.dim() == 4 and mask.shape[0] == batch else mask
        out = attended(workload, item, item_mask, reference)
        parts.append(_with_gradients(out, item, workload.upstream[i : i + 1].double(), backward=workload.case.backward))
    return {
        name: torch.cat([p[name] for p in parts])
        if name == "out" or name[1:] in batched
        else torch.stack([p[name] for p in parts]).sum(dim=0)
        for name in parts[0]
    }


def yardstick(workload: Workload) -> dict[str, Tensor]:
    """The output and gradients of the naive yardstick, in the case's dtype."""
    inputs = {name: t.detach().requires_grad_(workload.case.backward) for name, t in workload.inputs.items()}
    out = attended(workload, inputs, workload.mask, naive_attention)
    return _with_gradients(out, inputs, workload.upstream, backward=workload.case.backward)


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


def _with_gradients(
    out: Tensor, inputs: Mapping[str, Tensor], upstream: Tensor, *, backward: bool
) -> dict[str, Tensor]:
    results = {"out": out.detach()}
    if backward:
        gradients = torch.autograd.grad(out, list(inputs.values()), upstream)
        results |= {f"d{name}": g for name, g in zip(inputs, gradients, strict=True)}
    return results
