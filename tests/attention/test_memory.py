"""What kernels promise of memory: no score matrix with ``blockwise``, and of a window the band alone."""

from functools import partial

import pytest
import torch

from attention import KERNELS
from attention.blockwise import BLOCK
from bench.observing.fingerprint import fingerprint

from .conftest import make


@pytest.mark.parametrize("causal", [False, True])
def test_peak_of_live_bytes_is_linear_in_the_tokens(causal: bool) -> None:
    def peak(name: str, tokens: int) -> int:
        q, k, v = make(1, 1, tokens, tokens, 8)
        return fingerprint(
            lambda: torch.autograd.grad(KERNELS[name](q, k, v, causal=causal).sum(), (q, k, v))
        ).peak_bytes

    peaks = [peak("blockwise", n * BLOCK) for n in (4, 8, 16)]
    assert peaks[2] - peaks[1] == pytest.approx(2 * (peaks[1] - peaks[0]), rel=0.05)  # a line
    assert peaks[2] < peak("masked", 4 * BLOCK)  # four times the tokens in less than the formula takes


def test_causal_skips_the_blocks_that_it_hides() -> None:
    q, k, v = (t.detach() for t in make(1, 1, 4 * BLOCK, 4 * BLOCK, 8))
    products = [
        fingerprint(partial(KERNELS["blockwise"], q, k, v, causal=causal, window=window)).ops["aten.bmm"]
        for causal, window in ((False, None), (True, None), (True, BLOCK + 1))
    ]
    assert products == [2 * 16, 2 * 10, 2 * 7]  # two products a tile


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["sliding_window", "blockwise"])
def test_memory_of_a_window_grows_with_the_tokens_and_not_with_their_square(name: str, causal: bool) -> None:
    def peak(tokens: int) -> int:
        q, k, v = make(1, 1, tokens, tokens, 8)
        attend = KERNELS[name]
        return fingerprint(
            lambda: torch.autograd.grad(attend(q, k, v, causal=causal, window=16).sum(), (q, k, v))
        ).peak_bytes

    assert peak(4096) < 2.2 * peak(2048)


def test_decoding_in_a_window_touches_the_keys_of_the_window_alone() -> None:
    q, k, v = (t.detach() for t in make(1, 1, 1, 4096, 8))
    executed = fingerprint(lambda: KERNELS["sliding_window"](q, k, v, causal=True, window=16))
    assert executed.peak_bytes < 16 * 8 * 4 * 20  # twenty times the window's keys; all keys are 256 times
