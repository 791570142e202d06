"""A standard Transformer block around ``MultiHeadAttention``, and the smallest language model made of such blocks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache import KVCache, check_cache
from .multihead import MultiHeadAttention
from .registry import register_module
from .validation import check_dense, check_tokens


@register_module("block")
class TransformerBlock(nn.Module):
    """``y = x + attention(norm(x))``, then ``y + W_2 relu(W_1 norm(y))``: pre-norm residuals, LayerNorm.

    Sources: Vaswani et al. 2017, sections 3.1 and 3.3; the norm before each part: Xiong et al. 2020. With
    ``n_kv_heads=None`` the state dict is that of ``torch.nn.TransformerEncoderLayer(..., norm_first=True)``. There is
    no dropout: kernels have none, so that two versions of a kernel can be compared on the same inputs.

    Args:
        d_model: size of a token, a multiple of ``n_heads``.
        n_heads: query heads.
        n_kv_heads: key and value heads, a divisor of ``n_heads``; None means ``n_heads``.
        d_feedforward: rows of W_1; None means ``4 * d_model``.
        bias: whether projections and norms have a bias.
        kernel: name of a kernel in ``KERNELS``.

    Raises:
        ValueError: as ``MultiHeadAttention``, or a ``d_feedforward`` below 1.

    """

    @torch.inference_mode(mode=False)  # so that it can be trained, whatever mode it is built in
    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        d_feedforward: int | None = None,
        bias: bool = True,
        kernel: str = "sdpa",
    ) -> None:
        super().__init__()
        d_feedforward = 4 * d_model if d_feedforward is None else d_feedforward
        self.d_model = d_model
        self.self_attn = MultiHeadAttention(d_model, n_heads, n_kv_heads=n_kv_heads, bias=bias, kernel=kernel)
        if d_feedforward < 1:
            raise ValueError(f"d_feedforward must be at least 1; saw {d_feedforward}")
        self.linear1 = nn.Linear(d_model, d_feedforward, bias=bias)
        self.linear2 = nn.Linear(d_feedforward, d_model, bias=bias)
        self.norm1 = nn.LayerNorm(d_model, bias=bias)
        self.norm2 = nn.LayerNorm(d_model, bias=bias)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, cache: KVCache | None = None
    ) -> Tensor:
        """Transform the tokens x (B, T, E) -> (B, T, E); mask, causal and cache as ``MultiHeadAttention``'s."""
        check_tokens(x, self.d_model)
        x = x + self.self_attn(self.norm1(x), mask=mask, causal=causal, cache=cache)
        out: Tensor = x + self.linear2(F.relu(self.linear1(self.norm2(x))))
        return out


class TinyTransformer(nn.Module):
    """A language model: learned embeddings of tokens and positions, blocks, a last norm, scores of the next token.

    Attention is causal unless a call says otherwise.

    Args:
        vocabulary: the number of different tokens; a token is an integer from 0.
        d_model: size of an embedding, a multiple of ``n_heads``.
        context: the largest number of tokens in a sequence.
        n_heads: query heads.
        n_layers: blocks.
        n_kv_heads: key and value heads, a divisor of ``n_heads``; None means ``n_heads``.
        kernel: name of a kernel in ``KERNELS``.

    Raises:
        ValueError: as ``TransformerBlock``, or another size below 1; on a call, tokens of another shape or dtype, or
            more tokens than the context holds.

    """

    @torch.inference_mode(mode=False)
    def __init__(
        self,
        vocabulary: int,
        d_model: int,
        context: int,
        *,
        n_heads: int = 1,
        n_layers: int = 1,
        n_kv_heads: int | None = None,
        kernel: str = "sdpa",
    ) -> None:
        super().__init__()
        if min(vocabulary, context, n_layers) < 1:
            raise ValueError(
                f"vocabulary, context and n_layers must be at least 1; saw {vocabulary}, {context}, {n_layers}"
            )
        self.context = context
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.position = nn.Embedding(context, d_model)
        self.blocks = nn.ModuleList(
            TransformerBlock(d_model, n_heads, n_kv_heads=n_kv_heads, kernel=kernel) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, vocabulary, bias=False)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        causal: bool = True,
        caches: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """Score the next token after each of the tokens: (B, T), integers -> (B, T, vocabulary).

        ``caches``, one for each block, hold the earlier tokens; mask and causal as ``MultiHeadAttention``'s.
        """
        if caches is not None and len(caches) != len(self.blocks):
            raise ValueError(f"give each of the {len(self.blocks)} blocks a cache, by make_caches; saw {len(caches)}")
        for cache in caches or ():
            check_cache(cache)
        check_dense(tokens=tokens)
        start = 0 if caches is None else caches[0].length
        end = start + tokens.shape[-1]
        if tokens.dim() != 2 or tokens.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"tokens must be integers (batch, tokens); saw {tuple(tokens.shape)} in {tokens.dtype}")
        if end > self.context:
            raise ValueError(f"the context holds {self.context} tokens; saw {end}")
        x = self.embedding(tokens) + self.position(torch.arange(start, end, device=tokens.device))  # (B, T, E)
        for i, block in enumerate(self.blocks):
            x = block(x, mask=mask, causal=causal, cache=None if caches is None else caches[i])
        scores: Tensor = self.head(self.norm(x))
        return scores

    def make_caches(self, batch: int) -> list[KVCache]:
        """Make an empty cache for each block; each has room for as many tokens as the context holds."""
        blocks = [block for block in self.blocks if isinstance(block, TransformerBlock)]
        return [block.self_attn.make_cache(batch, self.context) for block in blocks]
