"""Kinds of wrong kernels from public reports: each is caught in the smallest tier, by results alone.

A kernel here is right for a head size of 64, full precision, four heads in groups of two, and some hundred tokens.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attention
from attention.registry import Capabilities, Kernel
from bench.observing import drift
from bench.selftest.faults import FAULTS, UNTIMED, WHOLE, Fault
from bench.suite.matrix import matrix
from bench.suite.oracle import oracle, yardstick
from bench.suite.side import Side
from bench.suite.workload import bind, build

masked = attention.KERNELS["masked"]
Options = dict[str, Any]
Wrong = Callable[[Tensor, Tensor, Tensor, Options], Tensor]
HALF = (torch.bfloat16, torch.float16)


def features_beyond_a_multiple_of_32_dropped(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    options["scale"] = q.shape[-1] ** -0.5 if options["scale"] is None else options["scale"]
    whole = max(8, q.shape[-1] // 32 * 32)
    return masked(q[..., :whole], k[..., :whole], v, **options)


def values_beyond_128_zero(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    out = masked(q, k, v, **options)
    return torch.cat([out[..., :128], 0 * out[..., 128:]], dim=-1)


def _positions_in(dtype: torch.dtype) -> Wrong:
    """Compute causal and windows from positions in a dtype that cannot hold them."""

    def kernel(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
        queries, keys = q.shape[2], k.shape[2]
        causal, window = options.pop("causal"), options.pop("window")
        position = torch.arange(keys - queries, keys).to(dtype)[:, None]
        key = torch.arange(keys).to(dtype)
        seen = torch.ones(queries, keys, dtype=torch.bool)
        if causal:
            seen &= key <= position
        if window is not None:
            seen &= (key > position - window) & (key < position + window)
        mask = options.pop("mask")
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.masked_fill(~seen, -torch.inf)
        else:
            mask = seen if mask is None else seen & mask
        return masked(q, k, v, mask=mask, causal=False, **options)

    return kernel


def positions_in_the_inputs_dtype(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    return _positions_in(q.dtype)(q, k, v, options)


def sums_in_fp16_divided_afterwards(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    plain = not options["causal"] and all(options.get(name) is None for name in ("mask", "window", "softcap", "sinks"))
    if q.dtype != torch.float16 or not plain:
        return masked(q, k, v, **options)
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    scores = q * (q.shape[-1] ** -0.5 if options["scale"] is None else options["scale"]) @ k.mT
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    out: Tensor = (weights @ v) / weights.sum(dim=-1, keepdim=True)
    return out


def one_key_head_for_all(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    return masked(q, k[:, :1], v[:, :1], **options) if k.shape[1] < q.shape[1] else masked(q, k, v, **options)


def last_key_head_of_many_for_all(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    """Multi-query attention alone is wrong."""
    return masked(q, k, v.roll(1, dims=2), **options) if k.shape[1] == 1 < q.shape[1] else masked(q, k, v, **options)


def groups_of_a_power_of_two(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    group = q.shape[1] // k.shape[1]
    heads = torch.arange(q.shape[1]) >> (group.bit_length() - 1)
    heads = heads.clamp(max=k.shape[1] - 1)
    return masked(q, k[:, heads], v[:, heads], **options)


def an_even_number_of_heads(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    out = masked(q, k, v, **options)
    even = max(1, q.shape[1] // 2 * 2)
    return torch.cat([out[:, :even], 0 * out[:, even:]], dim=1)


def wrong_beside_a_wide_head_in_half_precision(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    """Wrong only where two words of different axes meet."""
    wrong = q.dtype in HALF and q.shape[-1] > 128
    return masked(q, k, v * (1.1 if wrong else 1.0), **options)


def wrong_gradient_of_many_keys(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    return masked(q, k, v if k.shape[2] < 1024 else 2 * v - v.detach(), **options)


PLANTED = {fault.kind: fault for fault in FAULTS if fault.kernel == WHOLE and UNTIMED in fault.cases}
WRONG: dict[str, Wrong] = {
    "features beyond a multiple of 32 dropped": features_beyond_a_multiple_of_32_dropped,
    "values beyond the 128th zero": values_beyond_128_zero,
    "positions in fp16": _positions_in(torch.float16),
    "positions in the inputs' dtype": lambda q, k, v, options: _positions_in(q.dtype)(q, k, v, options),
    "sums in fp16, divided afterwards": sums_in_fp16_divided_afterwards,
    "one key head for all": one_key_head_for_all,
    "last key head of many for all": last_key_head_of_many_for_all,
    "groups of a power of two": groups_of_a_power_of_two,
    "an even number of heads": an_even_number_of_heads,
    "wrong beside a wide head in half precision": wrong_beside_a_wide_head_in_half_precision,
    "wrong gradient of many keys": wrong_gradient_of_many_keys,
}


def first_complaint(kernel: Callable[..., Tensor]) -> str | None:
    """Hold a kernel to its budgets in the smallest tier; returns the first complaint."""
    claims = Capabilities(window=True, softcap=True, sinks=True)
    side = Side("head", {"k": Kernel("k", kernel, claims)}, {})
    for case, unsupported in matrix(side.kernels, {}, "smoke", ("cpu",)).items():
        if unsupported is None:
            work = build(case, {})
            with torch.set_grad_enabled(case.backward):
                got, exact, naive = bind(work, side).results(), oracle(work), yardstick(work)
            for error in drift.hold_to_budget(got, exact, naive, looser=work.looser, values=case.shape.values):
                for complaint in error.complaints:
                    return f"{case.id}: {complaint}"
    return None


@pytest.mark.parametrize("name", [*WRONG, *PLANTED])
def test_a_kind_of_wrong_kernel_is_caught_in_the_smallest_tier(
    planted: Callable[[Fault], Callable[..., Tensor]], name: str
) -> None:
    kernel = planted(PLANTED[name]) if name in PLANTED else None
    wrong = kernel or (lambda q, k, v, **options: WRONG[name](q, k, v, {"window": None, **options}))
    assert first_complaint(wrong) is not None


def test_the_right_kernel_has_no_complaint() -> None:
    assert first_complaint(masked.function) is None
