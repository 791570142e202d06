"""The Transformer block and the small language model, against PyTorch's own layers with the same weights."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attention import KERNELS, Kernel, TinyTransformer, TransformerBlock

TOKENS, D_MODEL, HEADS = 17, 32, 4
VOCABULARY, CONTEXT = 40, 8  # with dimension 10 and batch 4: the study's


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomize(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5


def assert_same(got: list[Tensor], want: list[Tensor]) -> None:
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_block_gives_the_output_of_pytorch_s_inference_fast_path() -> None:
    theirs = nn.TransformerEncoderLayer(D_MODEL, HEADS, 48, batch_first=True, norm_first=True).eval()
    randomize(theirs)
    ours = TransformerBlock(D_MODEL, HEADS, d_feedforward=48).eval()
    ours.load_state_dict(theirs.state_dict())
    x = normal(2, TOKENS, D_MODEL)
    assert_same([ours(x)], [theirs(x)])


def twin(ours: TinyTransformer, n_layers: int) -> nn.Module:
    """The same model of PyTorch's own layers, with the same weights."""
    layer = nn.TransformerEncoderLayer(10, 1, 40, dropout=0.0, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, n_layers, norm=nn.LayerNorm(10), enable_nested_tensor=False)
    state = {name: ours.state_dict()[name.replace("layers.", "blocks.")] for name in encoder.state_dict()}
    encoder.load_state_dict(state)
    return encoder


@pytest.mark.request_of(causal=True, backward=True)
@pytest.mark.parametrize("n_layers", [1, 2])
def test_language_model_of_the_study_s_size_is_that_of_pytorch_s_layers(kernel: Kernel, n_layers: int) -> None:
    ours = TinyTransformer(VOCABULARY, 10, CONTEXT, n_layers=n_layers)
    for block in ours.blocks:
        assert isinstance(block, TransformerBlock)
        block.self_attn.kernel = kernel
    randomize(ours)
    encoder = twin(ours, n_layers)
    tokens = torch.randint(VOCABULARY, (4, CONTEXT), generator=torch.Generator().manual_seed(5))
    x = ours.embedding(tokens) + ours.position(torch.arange(CONTEXT))
    hidden = ~torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).tril()
    want = encoder(x, mask=hidden) @ ours.head.weight.T
    got = ours(tokens)
    assert got.shape == (4, CONTEXT, VOCABULARY)
    shared = [ours.embedding.weight, ours.position.weight, ours.head.weight]
    upstream = normal(*got.shape, seed=6)
    assert_same(
        [got, *torch.autograd.grad(got, shared, upstream)], [want, *torch.autograd.grad(want, shared, upstream)]
    )


def test_every_parameter_of_the_language_model_is_trained_and_its_loss_falls() -> None:
    torch.manual_seed(0)
    model = TinyTransformer(VOCABULARY, 10, CONTEXT)
    tokens = torch.randint(VOCABULARY, (4, CONTEXT))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 4
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


@torch.no_grad()
def test_decoding_with_caches_gives_the_scores_of_the_full_pass() -> None:
    model = TinyTransformer(VOCABULARY, 12, CONTEXT, n_heads=4, n_kv_heads=2, n_layers=2)
    tokens = torch.randint(VOCABULARY, (4, CONTEXT), generator=torch.Generator().manual_seed(5))
    caches = model.make_caches(4)
    parts = [model(part, caches=caches) for part in tokens.split([5, 1, 1, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_padded_sequences_have_the_scores_of_unpadded_ones() -> None:
    model = TinyTransformer(VOCABULARY, 10, CONTEXT)
    tokens = torch.randint(VOCABULARY, (2, CONTEXT), generator=torch.Generator().manual_seed(5))
    real = torch.arange(CONTEXT) < torch.tensor([CONTEXT, 3])[:, None]  # (B, T)
    padded = model(tokens, mask=real[:, None, None], causal=False)
    torch.testing.assert_close(padded[1:, :3], model(tokens[1:, :3], causal=False))


@torch.no_grad()
def test_language_model_is_causal_unless_told_otherwise() -> None:
    model = TinyTransformer(VOCABULARY, 10, CONTEXT)
    tokens = torch.randint(VOCABULARY, (4, CONTEXT), generator=torch.Generator().manual_seed(5))
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % VOCABULARY
    assert torch.equal(model(tokens)[:, :4], model(changed)[:, :4])
    assert not torch.equal(model(tokens, causal=False)[:, :4], model(changed, causal=False)[:, :4])


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: TransformerBlock(32, 4, d_feedforward=0), "d_feedforward must be at least 1; saw 0"),
        (lambda: TinyTransformer(0, 10, 8), "vocabulary, context and n_layers must be at least 1; saw 0, 8, 1"),
        (lambda: TinyTransformer(40, 10, 8, kernel="x"), "no kernel is named 'x'; there are "),
        (
            lambda: TinyTransformer(40, 10, 8)(torch.zeros(1, 8, dtype=torch.int64), caches=[]),
            "give each of the 1 blocks a cache, by make_caches; saw 0",
        ),
        (lambda: TinyTransformer(40, 10, 8)(torch.zeros(1, 9, dtype=torch.int64)), "the context holds 8 tokens; saw 9"),
        (
            lambda: TinyTransformer(40, 10, 8)(torch.zeros(1, 8)),
            "tokens must be integers (batch, tokens); saw (1, 8) in torch.float32",
        ),
    ],
)
def test_sizes_and_tokens_that_cannot_be_are_quoted(refused: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        refused()


def test_the_kernel_is_the_one_that_was_named() -> None:
    assert TransformerBlock(32, 4, kernel="manual").self_attn.kernel is KERNELS["manual"]
    (block,) = TinyTransformer(40, 10, 8, kernel="masked").blocks
    assert isinstance(block, TransformerBlock)
    assert block.self_attn.kernel is KERNELS["masked"]
