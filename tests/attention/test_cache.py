"""Decoding with a key-value cache: equal to the full causal pass, without copying what is cached; and refusals."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from attention import KERNELS, Kernel, KVCache, MultiHeadAttention, MultiHeadAttentionLoop, TinyTransformer, reference
from bench.observing.drift import hold_to_budget
from bench.observing.fingerprint import fingerprint
from bench.suite.naive import naive_attention, naive_multihead

from .conftest import make_mask

TOKENS, D_MODEL, HEADS = 9, 32, 4
SPLITS = {"one_by_one": [1] * 9, "prefill_then_one_by_one": [6, 1, 1, 1], "in_chunks": [4, 3, 2], "whole": [9]}


def module(kernel: Kernel = KERNELS["sdpa"], kv_heads: int = HEADS) -> MultiHeadAttention:
    built = MultiHeadAttention(D_MODEL, HEADS, n_kv_heads=kv_heads)
    built.kernel = kernel
    generator = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * D_MODEL**-0.5
    return built


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def decode(built: MultiHeadAttention, x: Tensor, split: Sequence[int], **options: Any) -> Tensor:
    """The output of all tokens, fed to an empty cache in parts; a mask (B, H, T, T) is cut to what each part sees."""
    cache = built.make_cache(len(x), x.shape[1])
    mask, outs = options.pop("mask", None), []
    for part in x.split(list(split), dim=1):
        start, end = cache.length, cache.length + part.shape[1]
        seen = None if mask is None else mask[..., start:end, :end]
        outs.append(built(part, cache=cache, mask=seen, **options))
        assert cache.length == end
    return torch.cat(outs, dim=1)


@pytest.mark.by_name
@pytest.mark.request_of(mask=(None, "bool", "float"), causal=True, grouped=(False, True))
@pytest.mark.parametrize("split", SPLITS)
def test_decoding_gives_the_full_causal_pass_within_the_error_budget(
    *, kernel: Kernel, mask: str | None, grouped: bool, split: str
) -> None:
    built, x = module(kernel, 2 if grouped else HEADS), normal(2, TOKENS, D_MODEL)
    hidden = None if mask is None else make_mask(mask, 2, HEADS, TOKENS, TOKENS, blind=3)
    got = decode(built, x, SPLITS[split], mask=hidden, causal=True)
    sizes = {"n_heads": HEADS, "n_kv_heads": built.n_kv_heads}
    asked: dict[str, Any] = {"mask": hidden, "causal": True}
    parameters = {name: p.detach() for name, p in built.named_parameters()}
    doubled = {name: p.double() for name, p in parameters.items()}
    exact = naive_multihead(x.double(), doubled, partial(reference, **asked), **sizes)
    naive = naive_multihead(x, parameters, partial(naive_attention, **asked), **sizes)
    (error,) = hold_to_budget({"out": got}, {"out": exact}, {"out": naive})
    assert error.complaints == ()


def test_a_prefix_that_attends_to_itself_whole_is_followed_causally() -> None:
    built, x = module(), normal(2, TOKENS, D_MODEL)
    visible = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    visible[:4, :4] = True
    cache = built.make_cache(2, TOKENS)
    with torch.no_grad():
        parts = [built(x[:, :4], cache=cache), built(x[:, 4:], cache=cache, causal=True)]
        want = built(x, mask=visible)
    torch.testing.assert_close(torch.cat(parts, dim=1), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["manual", "masked", "sdpa"])
@pytest.mark.parametrize("kv_heads", [2, HEADS])
def test_a_decode_step_takes_less_memory_than_the_cached_keys(name: str, kv_heads: int) -> None:
    built, held = module(KERNELS[name], kv_heads), 2000
    cache = built.make_cache(2, held + 8)
    with torch.no_grad():
        cache.append(*normal(2, 2, kv_heads, held, D_MODEL // HEADS))

        def step() -> Tensor:
            cache.truncate(held)  # a fingerprint may take more than one call
            out: Tensor = built(normal(2, 1, D_MODEL), cache=cache, causal=True)
            return out

        peak_bytes = fingerprint(step).peak_bytes
    scores_bytes = 2 * HEADS * (held + 1) * 4
    assert peak_bytes < 4 * scores_bytes < cache.keys.nbytes + cache.values.nbytes


def test_the_kernel_is_given_views_of_the_cache_itself() -> None:
    built, given = module(), []

    def spy(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        given.append((k, v))
        return torch.zeros_like(q)

    built.kernel = spy  # type: ignore[assignment]  # it is called like one
    cache = built.make_cache(1, 4)
    with torch.no_grad():
        for _ in range(2):
            built(normal(1, 2, D_MODEL), cache=cache)
    for k, v in given:
        assert (k.data_ptr(), v.data_ptr()) == (cache.keys.data_ptr(), cache.values.data_ptr())
    assert [k.shape[2] for k, _ in given] == [2, 4]


def test_appending_keeps_order_and_what_was_there() -> None:
    cache = KVCache(2, 3, 5, 4, value_size=6, dtype=torch.float64)
    k, v = normal(2, 3, 5, 4).double(), normal(2, 3, 5, 6).double()
    for start, end in ((0, 2), (2, 2), (2, 5)):
        keys, values = cache.append(k[:, :, start:end], v[:, :, start:end])
        assert torch.equal(keys, k[:, :, :end])
        assert torch.equal(values, v[:, :, :end])
    assert (cache.length, cache.capacity) == (5, 5)


@pytest.mark.parametrize("kept", [0, 4])
def test_a_truncated_cache_goes_on_from_there(kept: int) -> None:
    built, x = module(), normal(1, TOKENS, D_MODEL)
    cache = built.make_cache(1, TOKENS)
    with torch.no_grad():
        first = built(x, cache=cache, causal=True)
        cache.truncate(kept)
        again = built(x[:, kept:], cache=cache, causal=True)
    torch.testing.assert_close(again, first[:, kept:], rtol=1e-5, atol=1e-5)


def test_a_cache_made_in_inference_mode_serves_outside_of_it_and_the_other_way_round() -> None:
    built, x = module(), normal(1, 4, D_MODEL)
    with torch.inference_mode():
        cache = built.make_cache(1, 6)
        built(x, cache=cache)
    with torch.no_grad():
        built(x[:, :1], cache=cache)
    with torch.inference_mode():
        built(x[:, :1], cache=cache)
    assert cache.length == 6


@torch.no_grad()
def test_tokens_that_the_kernel_refuses_do_not_join_the_cache() -> None:
    built = module(KERNELS["manual"])
    cache = built.make_cache(1, TOKENS)
    built(normal(1, 3, D_MODEL), cache=cache)
    with pytest.raises(NotImplementedError, match="does not support causal attention"):
        built(normal(1, 2, D_MODEL), cache=cache, causal=True)
    with pytest.raises(ValueError, match=r"mask must broadcast to \(B, Hq, Tq, Tk\) = \(1, 4, 1, 4\)"):
        built(normal(1, 1, D_MODEL), cache=cache, mask=torch.ones(1, 3, dtype=torch.bool))
    assert cache.length == 3


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda c: c.append(normal(2, 2, 3, 4), normal(2, 2, 3, 4)),
         "the cache holds 3 of at most 5 tokens and 3 more do not fit: make it with a larger capacity"),
        (lambda c: c.append(normal(1, 2, 1, 4), normal(1, 2, 1, 4)),
         "k must be (B, Hkv, T, size) = (2, 2, T, 4) in torch.float32 on cpu, with one T for k and v, to join the "
         "cache; saw k (1, 2, 1, 4), v (1, 2, 1, 4), k in torch.float32 on cpu"),
        (lambda c: c.append(normal(2, 2, 1, 4), normal(2, 2, 2, 4)),
         "v must be (B, Hkv, T, size) = (2, 2, T, 4) in torch.float32 on cpu, with one T for k and v, to join the "
         "cache; saw k (2, 2, 1, 4), v (2, 2, 2, 4), v in torch.float32 on cpu"),
        (lambda c: c.append(normal(4), normal(4)), "k must be (B, Hkv, T, size) = (2, 2, T, 4) in"),
        (lambda c: c.append(normal(2, 2, 1, 4).half(), normal(2, 2, 1, 4).half()), "k in torch.float16 on cpu"),
        (lambda c: c.append(*normal(2, 2, 2, 1, 4).to("meta")), "k in torch.float32 on meta"),
        (lambda c: c.truncate(4), "a cache of 3 tokens cannot be cut to 4: give 0 to 3"),
        (lambda c: c.truncate(-1), "a cache of 3 tokens cannot be cut to -1: give 0 to 3"),
        (lambda _: KVCache(1, 0, 8, 4),
         "batch, n_kv_heads, capacity, head_size and value_size must be at least 1; saw 1, 0, 8, 4, 4"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_cache_is_quoted_and_leaves_it_alone(
    refused: Callable[[KVCache], object], message: str
) -> None:
    cache = KVCache(2, 2, 5, 4)
    held = normal(2, 2, 3, 4)
    cache.append(held, held)
    with pytest.raises(ValueError, match=re.escape(message)):
        refused(cache)
    assert cache.length == 3
    assert torch.equal(cache.keys, held)


def test_gradients_through_a_cache_are_refused() -> None:
    built = module()
    cache = built.make_cache(1, 4)
    with pytest.raises(NotImplementedError, match=r"^KVCache does not support a backward pass: decode under torch\."):
        built(normal(1, 2, D_MODEL), cache=cache)
    assert cache.length == 0


def test_a_cache_that_is_made_under_autocast_is_of_its_dtype() -> None:
    built, x = module(), normal(1, 2, D_MODEL)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        cache = built.make_cache(1, 4)
        assert built(x, cache=cache).dtype == cache.keys.dtype == torch.bfloat16
        with pytest.raises(
            ValueError, match=r"k in torch\.bfloat16 on cpu: make such a cache, as make_cache does under "
        ):
            built(x, cache=KVCache(1, HEADS, 4, D_MODEL // HEADS))


def test_what_is_no_cache_or_no_causal_beside_one_is_quoted() -> None:
    model, x = TinyTransformer(8, D_MODEL, 4, n_heads=HEADS), normal(1, 2, D_MODEL)
    calls: list[Callable[..., Any]] = [
        lambda cache, **more: module()(x, cache=cache, **more),
        lambda cache, **more: model(torch.zeros(1, 2, dtype=torch.int64), caches=[cache], **more),
    ]
    for call in calls:
        with torch.no_grad():
            with pytest.raises(ValueError, match=r"^a cache must be a KVCache, as make_cache makes one; saw a dict$"):
                call({})
            with pytest.raises(ValueError, match=r"^causal must be True or False; saw 'no'"):
                call(module().make_cache(1, 4), causal="no")


def test_the_loop_over_heads_says_that_it_takes_no_cache() -> None:
    with pytest.raises(NotImplementedError, match="MultiHeadAttentionLoop does not support a cache: use MultiHead"):
        MultiHeadAttentionLoop(D_MODEL, HEADS)(normal(1, 2, D_MODEL), cache=module().make_cache(1, 4))
