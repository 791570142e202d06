"""The adapter for flash_attn's signature, called directly."""

from typing import Any

import torch
from torch import Tensor

from attention import reference
from bench.outside import FlashLayout


def tokens_first(q: Tensor, k: Tensor, v: Tensor, *, softmax_scale: float | None, causal: bool) -> Tensor:
    out = reference(*(t.transpose(1, 2) for t in (q, k, v)), causal=causal, scale=softmax_scale)
    return out.transpose(1, 2).to(q.dtype)


def inputs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, heads, tokens, 8, generator=generator) for heads, tokens in ((4, 3), (2, 5), (2, 5))]


def test_layout_scale_and_causal_are_translated() -> None:
    q, k, v = inputs()
    for scale in (None, 0.3):
        for causal in (False, True):
            got = FlashLayout(tokens_first)(q, k, v, mask=None, causal=causal, scale=scale)
            want = reference(q, k, v, causal=causal, scale=scale)
            torch.testing.assert_close(got, want.float())


def test_the_function_is_given_views() -> None:
    given: list[Tensor] = []

    def spy(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        given[:] = q, k, v
        return q

    q, k, v = inputs()
    FlashLayout(spy)(q, k, v, mask=None, causal=False, scale=None)
    assert [t.data_ptr() for t in given] == [t.data_ptr() for t in (q, k, v)]
    assert [tuple(t.shape) for t in given] == [(2, 3, 4, 8), (2, 5, 2, 8), (2, 5, 2, 8)]


def test_each_kind_of_request_is_tried_once() -> None:
    seen: list[tuple[int, ...]] = []

    def spy(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        seen.append(tuple(q.shape))
        return q

    kernel = FlashLayout(spy)
    for _ in range(2):
        kernel(*inputs(), mask=None, causal=False, scale=None)
    assert seen == [(1, 1, 1, 8), (2, 3, 4, 8), (2, 3, 4, 8)]
