"""The error rule: how far outputs and gradients are from the float64 oracle, and how far they may be.

A result may be off by a small multiple of the error of the naive yardstick in the same dtype, plus two units in the
last place, and never by more than an absolute cap. The head is held to the base's own error in the same way. The errors
of yardstick and base count as at least the noise of float32, since below that their size is chance. The largest error
does not show a result that is slightly off everywhere, so the root mean square is limited likewise.
flash-attention's tests bound errors by a reference's in the same way (2x forward, 3x gradients).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, isfinite, log2, prod, sqrt

import torch
from torch import Tensor

from ..plain.evidence import TensorError
from ..plain.printable import counted
from .tolerance import CAPS, Results, same_bits

FORWARD_FACTOR = 2.0
GRADIENT_FACTOR = 3.0
BASE_FACTOR = 2.0
ULPS = 2.0
RMS_ULPS = 0.1  # allowed also where the naive error happens to vanish
# The noise of float32, in ulp of the largest value, at normal scores: PyTorch's vectorised exp alone may be off by 20
# ulp (``Vectorized::exp_u20``), and the rounding of a score changes its weight in proportion to the score.
NOISE_ULPS = 12.0
SUMMED = 8.0  # the cap of a one-dimensional gradient (a bias, sinks) grows with sqrt(number of terms) / SUMMED


def hold_to_budget(
    head: Results,
    exact: Results,
    naive: Results,
    base: Results | None = None,
    *,
    stored: Mapping[str, float] | None = None,
    looser: float = 1.0,
    values: float = 0.0,
) -> tuple[TensorError, ...]:
    """Hold every output and gradient to its budget, and to the base's error where there is a base.

    ``stored`` holds errors on the same inputs from an earlier run in the same environment. Noise and the absolute caps,
    which are for standard normal inputs, are multiplied by ``looser``; ``inf`` only removes the caps. ``values`` is
    the size of v's values, whose mean an output is. It has their rounding error, however small it is itself, and so
    have gradients.
    """
    return tuple(
        _tensor_error(
            name,
            head[name],
            exact[name],
            naive[name],
            None if base is None else base[name],
            stored=(stored or {}).get(name),
            looser=looser,
            values=values,
            terms=0.0 if name == "out" else _terms(exact["out"], exact[name]),
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
    values: float,
    terms: float,
) -> TensorError:
    if head.shape != exact.shape or head.dtype != naive.dtype:
        got, want = (tuple(head.shape), head.dtype), (tuple(exact.shape), naive.dtype)
        complaint = f"{name}: shape and dtype are {got}, should be {want}"
        return TensorError(name, float("inf"), 0.0, 0.0, complaints=(complaint,))
    output = name == "out"
    error, naive_error = _Error.of(head, exact), _Error.of(naive, exact)
    bit_equal = None if base is None else same_bits(head, base)
    base_error = None if base is None or base.shape != exact.shape else error if bit_equal else _Error.of(base, exact)
    highest = float(exact.abs().max()) if exact.numel() else 0.0
    slack = ULPS * ulp(highest, naive.dtype)
    rms_slack = RMS_ULPS * ulp(_rms(exact), naive.dtype)
    factor = FORWARD_FACTOR if output else GRADIENT_FACTOR
    scored = NOISE_ULPS * (looser if isfinite(looser) else 1.0)
    # Large values of v make the terms of a gradient large, even if they cancel; dv has no such terms.
    summed_up = values if output or (values > 1 and name != "dv") else 0.0
    noise = max(scored, sqrt(terms)) * ulp(max(highest, summed_up), torch.float32)
    rms_noise = noise * _rms(exact) / highest if highest else 0.0
    budget = factor * max(naive_error.largest, noise) + slack
    rms_budget = factor * max(naive_error.rms, rms_noise) + rms_slack
    if naive.dtype in CAPS:
        # The gradient of a bias or of sinks sums the errors of all rows, each in proportion to the values.
        summed = max(1.0, values) * sqrt(terms) / SUMMED if exact.dim() == 1 else 1.0
        budget = min(budget, CAPS[naive.dtype][0 if output else 1] * looser * max(1.0, highest, summed))

    # The first figure above its limit is reported.
    figures = (
        ("error", error.largest, naive_error.largest, budget, noise, slack),
        ("RMS error", error.rms, naive_error.rms, rms_budget, rms_noise, rms_slack),
    )
    limits = [
        (what, seen, limit, f"is over its budget {limit:.3g} (naive {what} {by_naive:.3g}){more}")
        for (what, seen, by_naive, limit, *_), more in zip(figures, ("", ", though no single value is"), strict=True)
    ]
    if base_error is not None and base is not None and not bool(_unfit(base, exact).any()):
        of_base = base_error.largest, base_error.rms
        for (what, seen, _, limit, least, allowed), by_base in zip(figures, of_base, strict=True):
            counts = max(by_base, least)
            why = f"is more than {BASE_FACTOR:g}x the base's {counts:.3g}, though inside its budget {limit:.3g}"
            limits.append((what, seen, BASE_FACTOR * counts + allowed, why))
    if stored is not None:
        more = f"is more than {BASE_FACTOR:g}x the {stored:.3g} that the baseline stored"
        limits.append(("error", error.largest, BASE_FACTOR * max(stored, noise) + slack, more))
    unfit = _unfit(head, exact).flatten()
    if bool(unfit.any()):
        where = _at(int(unfit.int().argmax()), head, exact)
        complaints = [f"{name}: not finite where the oracle is: {counted(int(unfit.sum()), 'value')}; {where}"]
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
        bit_equal=None if base_error is None else bit_equal,
    )


def _terms(out: Tensor, gradient: Tensor) -> float:
    """Return about how many terms each value of a gradient sums: the queries that reach it, of all heads and items."""
    rows = out.numel() / max(1, out.shape[-1])
    return rows / max(1, prod(gradient.shape[:-2] if gradient.dim() > 1 else out.shape[1:-2]))


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
    """Say where the value with a flat index is, and what it is in the result and in the oracle."""
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
