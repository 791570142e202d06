"""Windows: which keys a query sees, on every kernel that takes one, and that only the band is computed."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from attention import KERNELS, Kernel, reference
from bench.observing.fingerprint import fingerprint
from bench.suite.matrix import COMPILING

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]
Check = Callable[..., dict[str, Tensor]]
EVERY_WINDOW = (1, 16, 63, 65, 10**12)
# A kernel that compiles would do so for each of the shapes; test_flex.py holds it to a window.
WINDOWED = {n: k for n, k in KERNELS.items() if k.capabilities.window and n not in COMPILING}
EVERY_KERNEL = pytest.mark.parametrize("attend", [*WINDOWED.values(), reference], ids=[*WINDOWED, "reference"])


@EVERY_KERNEL
@pytest.mark.parametrize("causal", [False, True], ids=["both_sides", "causal"])
@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize(("queries", "keys"), [(9, 9), (3, 9), (1, 9)])
def test_query_sees_the_keys_less_than_a_window_away(
    attend: Callable[..., Tensor], causal: bool, window: int, queries: int, keys: int
) -> None:
    zeros, each_key = torch.zeros(1, 1, keys, 4), torch.eye(keys)[None, None]
    seen = attend(zeros[:, :, :queries], zeros, each_key, causal=causal, window=window)[0, 0] > 0
    for i in range(queries):
        position = i + keys - queries
        expected = [abs(position - j) < window and not (causal and j > position) for j in range(keys)]
        assert seen[i].tolist() == expected


@pytest.mark.request_of(window=EVERY_WINDOW, causal=(False, True), grouped=(False, True), backward=True)
@pytest.mark.parametrize(("queries", "keys"), [(130, 130), (33, 149), (1, 149)])
def test_output_and_gradients_in_a_window_are_within_budget_of_the_oracle(
    *, kernel: Kernel, window: int, causal: bool, grouped: bool, queries: int, keys: int, make: Make, check: Check
) -> None:
    q, k, v = make(1, 4, queries, keys, kv_heads=2 if grouped else 4)
    check(kernel, q, k, v, causal=causal, window=window)


@pytest.mark.request_of(window=(3, 64), causal=(False, True), mask=("bool", "float"), backward=True)
def test_window_mask_and_causal_all_apply(
    *, kernel: Kernel, window: int, causal: bool, mask: str, make: Make, make_mask: Any, check: Check
) -> None:
    got = check(kernel, *make(), mask=make_mask(mask, 33, 49, blind=5), causal=causal, window=window)
    assert not got["out"][:, :, 5].any()
    assert not got["dq"][:, :, 5].any()


@pytest.mark.request_of(window=3, backward=True)
def test_query_before_every_key_of_its_window_is_zero_with_zero_gradients(
    *, kernel: Kernel, window: int, make: Make, check: Check
) -> None:
    got = check(kernel, *make(queries=80, keys=9), window=window)  # 71 queries come before the first key
    assert not got["out"][:, :, : 71 - window + 1].any()
    assert not got["dq"][:, :, : 71 - window + 1].any()


@pytest.mark.request_of(window=16, causal=(False, True), backward=True)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_value_outside_of_a_window_has_no_influence(
    *, kernel: Kernel, window: int, causal: bool, value: float, make: Make
) -> None:
    q, k, v = make(1, 2, 130, 130)
    spoilt = v.detach().clone()
    spoilt[:, :, 70] = value
    clean, other = (kernel(q, k, t, causal=causal, window=window) for t in (v, spoilt))
    far = (torch.arange(130) - 70).abs() >= window
    assert torch.equal(other[:, :, far], clean[:, :, far])
    gradients = (torch.autograd.grad(out[:, :, far].sum(), q)[0][:, :, far] for out in (clean, other))
    assert torch.equal(*gradients)


@pytest.mark.request_of(window=5, causal=True, dtype=torch.float64)
def test_prefill_in_chunks_and_decoding_in_a_window_equal_the_full_pass(
    *, kernel: Kernel, window: int, causal: bool, dtype: torch.dtype, make: Make
) -> None:
    q, k, v = make(1, 2, 140, 140, dtype=dtype)
    cuts = (0, 1, 64, 100, 139, 140)
    parts = [kernel(q[:, :, a:b], k[:, :, :b], v[:, :, :b], causal=causal, window=window) for a, b in pairwise(cuts)]
    torch.testing.assert_close(torch.cat(parts, dim=2), kernel(q, k, v, causal=causal, window=window))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["sliding_window", "blockwise"])
def test_memory_of_a_window_grows_with_the_tokens_and_not_with_their_square(
    name: str, causal: bool, make: Make
) -> None:
    def peak(tokens: int) -> int:
        q, k, v = make(1, 1, tokens, tokens, 8)
        attend = KERNELS[name]
        return fingerprint(
            lambda: torch.autograd.grad(attend(q, k, v, causal=causal, window=16).sum(), (q, k, v))
        ).peak_bytes

    assert peak(4096) < 2.2 * peak(2048)


def test_decoding_in_a_window_touches_the_keys_of_the_window_alone(make: Make) -> None:
    q, k, v = (t.detach() for t in make(1, 1, 1, 4096, 8))
    executed = fingerprint(lambda: KERNELS["sliding_window"](q, k, v, causal=True, window=16))
    assert executed.peak_bytes < 16 * 8 * 4 * 20  # twenty times the window's keys; all keys are 256 times
