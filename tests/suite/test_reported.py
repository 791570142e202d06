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
from bench.suite.matrix import matrix
from bench.suite.oracle import oracle, yardstick
from bench.suite.side import Side
from bench.suite.workload import bind, build

masked = attention.KERNELS["masked"]
Options = dict[str, Any]
HALF = (torch.bfloat16, torch.float16)


def features_beyond_64_dropped(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    options["scale"] = q.shape[-1] ** -0.5 if options["scale"] is None else options["scale"]
    return masked(q[..., :64], k[..., :64], v, **options)


def features_beyond_a_multiple_of_32_dropped(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    options["scale"] = q.shape[-1] ** -0.5 if options["scale"] is None else options["scale"]
    whole = max(8, q.shape[-1] // 32 * 32)
    return masked(q[..., :whole], k[..., :whole], v, **options)


def values_beyond_128_zero(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    out = masked(q, k, v, **options)
    return torch.cat([out[..., :128], 0 * out[..., 128:]], dim=-1)


def scale_of_one_head_size(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    return masked(q, k, v, **options | {"scale": 0.125 if options["scale"] is None else options["scale"]})


def keys_before_the_last_1024_dropped(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    mask = options["mask"]
    if mask is not None and mask.shape[-1] > 1024:
        options["mask"] = mask[..., -1024:]
    return masked(q, k[:, :, -1024:], v[:, :, -1024:], **options)


def _positions_in(dtype: torch.dtype) -> Callable[[Tensor, Tensor, Tensor, Options], Tensor]:
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


def values_cut_off_at_100(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    return masked(q, k, v.clamp(-100, 100), **options)


def key_head_by_remainder(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    heads = torch.arange(q.shape[1]) % k.shape[1]
    return masked(q, k[:, heads], v[:, heads], **options)


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


def two_items_of_a_batch(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    out = masked(q, k, v, **options)
    return torch.cat([out[:2], 0 * out[2:]])


def an_even_number_of_heads(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    out = masked(q, k, v, **options)
    even = max(1, q.shape[1] // 2 * 2)
    return torch.cat([out[:, :even], 0 * out[:, even:]], dim=1)


def head_sizes_of_whole_vectors(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    out = masked(q, k, v, **options)
    whole = max(8, v.shape[-1] // 8 * 8)
    return torch.cat([out[..., :whole], 0 * out[..., whole:]], dim=-1)


def wrong_beside_a_wide_head_in_half_precision(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    """Two axes at once: what a single one leaves out."""
    wrong = q.dtype in HALF and q.shape[-1] > 128
    return masked(q, k, v * (1.1 if wrong else 1.0), **options)


def wrong_gradient_of_many_keys(q: Tensor, k: Tensor, v: Tensor, options: Options) -> Tensor:
    return masked(q, k, v if k.shape[2] < 1024 else 2 * v - v.detach(), **options)


FAULTS = (
    features_beyond_64_dropped,
    features_beyond_a_multiple_of_32_dropped,
    values_beyond_128_zero,
    scale_of_one_head_size,
    keys_before_the_last_1024_dropped,
    _positions_in(torch.bfloat16),
    _positions_in(torch.float16),
    positions_in_the_inputs_dtype,
    sums_in_fp16_divided_afterwards,
    values_cut_off_at_100,
    key_head_by_remainder,
    one_key_head_for_all,
    last_key_head_of_many_for_all,
    groups_of_a_power_of_two,
    two_items_of_a_batch,
    an_even_number_of_heads,
    head_sizes_of_whole_vectors,
    wrong_beside_a_wide_head_in_half_precision,
    wrong_gradient_of_many_keys,
)


def first_complaint(kernel: Callable[[Tensor, Tensor, Tensor, Options], Tensor]) -> str | None:
    """Hold a kernel to its budgets in the smallest tier; returns the first complaint."""

    def called(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        return kernel(q, k, v, {"window": None, **options})

    claims = Capabilities(window=True, softcap=True, sinks=True)
    side = Side("head", {"k": Kernel("k", called, claims)}, {})
    for case, unsupported in matrix(side.kernels, {}, "smoke", ("cpu",)).items():
        if unsupported is None:
            work = build(case, {})
            with torch.set_grad_enabled(case.backward):
                got, exact, naive = bind(work, side).results(), oracle(work), yardstick(work)
            for error in drift.hold_to_budget(got, exact, naive, looser=work.looser, values=case.shape.values):
                for complaint in error.complaints:
                    return f"{case.id}: {complaint}"
    return None


@pytest.mark.parametrize("kernel", FAULTS, ids=lambda kernel: kernel.__name__)
def test_a_kind_of_wrong_kernel_is_caught_in_the_smallest_tier(
    kernel: Callable[[Tensor, Tensor, Tensor, Options], Tensor],
) -> None:
    assert first_complaint(kernel) is not None


def test_the_right_kernel_has_no_complaint() -> None:
    assert first_complaint(lambda q, k, v, options: masked(q, k, v, **options)) is None
