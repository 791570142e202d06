"""The error rule: how far outputs and gradients are from the float64 oracle, and how far they may be.

A result may be off by a small multiple of the error of the naive yardstick in the same dtype, plus two units in the
last place, and never by more than an absolute cap. The same is asked of the head against the base's own error. The
largest error does not see a result that is off everywhere by a little, so the root of the mean square is held likewise.
flash-attention's tests bound errors by a reference's in the same way (2x forward, 3x gradients).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import floor, inf, log2, sqrt

import torch
from torch import Tensor

from ..plain.evidence import TensorError
from ..sides.inputs import NORMAL_SCORE
from ..sides.workload import Workload
from .alike import CAPS, Results
from .naive import Attend, naive_attention, naive_module

FORWARD_FACTOR = 2.0
GRADIENT_FACTOR = 3.0
BASE_FACTOR = 2.0
ULPS = 2.0
RMS_ULPS = 0.1  # where the naive error happens to vanish
FEW = 64  # of fewer values, the naive error is chance: they are allowed at least the rounding of a sum of so many terms


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


def hold_to_budget(
    head: Results,
    exact: Results,
    naive: Results,
    base: Results | None = None,
    *,
    stored: Mapping[str, float] | None = None,
    capped: bool = True,
    score: float = NORMAL_SCORE,
) -> tuple[TensorError, ...]:
    """Hold every output and gradient to its budget, and to the base's error where there is a base.

    ``stored`` holds errors on the same inputs from an earlier run in the same environment. ``capped=False`` leaves out
    the absolute caps, which are for standard normal inputs; ``score`` is about the size of the largest score.
    """
    looser = max(1.0, score / NORMAL_SCORE) if capped else inf
    rows = exact["out"].numel() // max(1, exact["out"].shape[-1])
    return tuple(
        _tensor_error(
            name,
            head[name],
            exact[name],
            naive[name],
            None if base is None else base[name],
            stored=(stored or {}).get(name),
            looser=looser,
            terms=rows / exact[name].numel() if name != "out" and 0 < exact[name].numel() < FEW else 0,
        )
        for name in exact
    )


def _tensor_error(
    name: str,
    head: Tensor,
    exact: Tensor,
    naive: Tensor,
    base: Tensor | None,
    *,
    stored: float | None,
    looser: float,
    terms: float,
) -> TensorError:
    if head.shape != exact.shape or head.dtype != naive.dtype:
        seen, want = (tuple(head.shape), head.dtype), (tuple(exact.shape), naive.dtype)
        complaint = f"{name}: shape and dtype are {seen}, should be {want}"
        return TensorError(name, float("inf"), 0.0, 0.0, complaints=(complaint,))
    output = name == "out"
    error, naive_error = _Error.of(head, exact), _Error.of(naive, exact)
    base_error = None if base is None or base.shape != exact.shape else _Error.of(base, exact)
    highest = float(exact.abs().max()) if exact.numel() else 0.0
    slack = ULPS * ulp(highest, naive.dtype)
    rms_slack = RMS_ULPS * ulp(_rms(exact), naive.dtype)
    factor = FORWARD_FACTOR if output else GRADIENT_FACTOR
    chance = sqrt(terms) * ulp(highest, torch.float32)
    budget = factor * max(naive_error.largest, chance) + slack
    rms_budget = factor * max(naive_error.rms, chance) + rms_slack
    if naive.dtype in CAPS:
        budget = min(budget, CAPS[naive.dtype][0 if output else 1] * looser * max(1.0, highest))

    # The first figure above its limit is reported.
    limits = [
        ("error", error.largest, budget, f"is over its budget {budget:.3g} (naive error {naive_error.largest:.3g})"),
        (
            "RMS error",
            error.rms,
            rms_budget,
            f"is over its budget {rms_budget:.3g} (naive RMS error {naive_error.rms:.3g}), though no single value is",
        ),
    ]
    if base_error is not None and base is not None and not bool(_unfit(base, exact).any()):
        more = f"is more than {BASE_FACTOR:g}x the base's"
        largest, rms = base_error.largest, base_error.rms
        limits += [
            (
                "error",
                error.largest,
                BASE_FACTOR * largest + slack,
                f"{more} {largest:.3g}, though inside its budget {budget:.3g}",
            ),
            (
                "RMS error",
                error.rms,
                BASE_FACTOR * rms + rms_slack,
                f"{more} {rms:.3g}, though inside its budget {rms_budget:.3g}",
            ),
        ]
    if stored is not None:
        more = f"is more than {BASE_FACTOR:g}x the {stored:.3g} that the baseline stored"
        limits.append(("error", error.largest, BASE_FACTOR * stored + slack, more))
    unfit = _unfit(head, exact).flatten()
    if bool(unfit.any()):
        where = _at(int(unfit.int().argmax()), head, exact)
        complaints = [f"{name}: {int(unfit.sum())} values are not finite where the oracle is; {where}"]
    else:
        where = _at(error.worst, head, exact)
        complaints = [f"{name}: {what} {seen:.3g} {why}; {where}" for what, seen, limit, why in limits if seen > limit]
    return TensorError(
        name,
        error.largest,
        naive_error.largest,
        budget,
        error.rms,
        rms_budget,
        tuple(complaints[:1]),
        base=None if base_error is None else base_error.largest,
        bit_equal=None if base_error is None or base is None else torch.equal(head, base),
    )


def _unfit(tensor: Tensor, exact: Tensor) -> Tensor:
    """Where a tensor is not finite and the oracle is."""
    return ~torch.isfinite(tensor) & torch.isfinite(exact)


@dataclass(frozen=True)
class _Error:
    """How far a tensor is from the oracle where both are finite: largest error, its flat index, root mean square."""

    largest: float
    worst: int
    rms: float

    @classmethod
    def of(cls, tensor: Tensor, exact: Tensor) -> "_Error":
        if exact.numel() == 0:
            return cls(0.0, 0, 0.0)
        error = (tensor.double() - exact).abs().nan_to_num(nan=0.0, posinf=0.0).flatten()
        worst = int(error.argmax())
        return cls(float(error[worst]), worst, _rms(error))


def _rms(values: Tensor) -> float:
    """Return the root mean square of the finite values."""
    values = values.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return float(values.square().mean().sqrt()) if values.numel() else 0.0


def _at(index: int, head: Tensor, exact: Tensor) -> str:
    """Say where the value with a flat index is, and what it is on either side."""
    if exact.numel() == 0:
        return "empty"
    where: tuple[int, ...] = ()
    rest = index
    for size in reversed(exact.shape):  # torch.unravel_index would load sympy, a third of a second in every run
        rest, at = divmod(rest, size)
        where = (at, *where)
    return f"worst at {where}: got {head.flatten()[index].item():.9g}, oracle {exact.flatten()[index].item():.9g}"


def ulp(magnitude: float, dtype: torch.dtype) -> float:
    """The spacing of the dtype's values at a magnitude."""
    info = torch.finfo(dtype)
    return float(info.eps * 2.0 ** floor(log2(max(magnitude, info.tiny))))
