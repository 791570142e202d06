"""Multi-head self-attention, fused and head by head, over any registered kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache import KVCache, check_cache
from .registry import Kernel, kernel_named, register_module
from .validation import cast_dtype, check_causal, check_mask, check_tokens


def attend_projected(
    kernel: Kernel,
    qkv: Tensor,
    heads: tuple[int, int, int],
    mask: Tensor | None,
    *,
    causal: bool,
    cache: KVCache | None,
) -> Tensor:
    """Attend with ``heads`` = (H, Hkv, D), from fused projections qkv (B, T, (H + 2 Hkv) D) -> (B, T, H D).

    These tokens follow those in the cache, if there is one, and join it, unless the kernel raises.
    """
    batch, tokens, _ = qkv.shape
    n_heads, n_kv_heads, head_size = heads
    qkv = qkv.view(batch, tokens, n_heads + 2 * n_kv_heads, head_size).transpose(1, 2)  # (B, H + 2 Hkv, T, D)
    q, k, v = qkv.split((n_heads, n_kv_heads, n_kv_heads), dim=1)
    if cache is None:
        out = kernel(q, k, v, mask=mask, causal=causal)  # (B, H, T, D)
    else:
        check_cache(cache)
        check_causal(causal)
        before = cache.length
        k, v = cache.append(k, v)
        try:
            out = kernel(q, k, v, mask=mask, causal=causal and tokens > 1)  # the last token sees every key
        except BaseException:
            cache.truncate(before)
            raise
    return out.transpose(1, 2).reshape(batch, tokens, n_heads * head_size)


@register_module("mha")
class MultiHeadAttention(nn.Module):
    """``concat(h_1 ... h_H) W_O``, ``h_i = attention(x W_i^Q, x W_i^K, x W_i^V)``, with one fused QKV projection.

    Source: Vaswani et al. 2017, section 3.2.2. With ``n_kv_heads=None`` the state dict is that of
    ``torch.nn.MultiheadAttention(d_model, n_heads, bias=bias)``; its masks mean the opposite (here True = attend).

    Args:
        d_model: size of a token, a multiple of ``n_heads``.
        n_heads: query heads.
        n_kv_heads: key and value heads, a divisor of ``n_heads``; None means ``n_heads``.
        bias: whether the projections have one.
        kernel: name of a kernel in ``KERNELS``.

    Raises:
        ValueError: sizes that do not divide, or an unknown kernel; on a call, an x of another shape, dtype or
            device, a cache that is none, and whatever the kernel raises.

    Hooks, adapters such as LoRA, pruning, parametrizations and ``quantize_dynamic`` act on ``out_proj``, which is
    called. ``in_proj_weight`` and ``in_proj_bias`` are parameters and no module, as PyTorch's are: pruning and
    parametrizations act on them, read once a call. A module built in inference mode can be trained outside of it.

    """

    @torch.inference_mode(mode=False)
    def __init__(
        self, d_model: int, n_heads: int, *, n_kv_heads: int | None = None, bias: bool = True, kernel: str = "sdpa"
    ) -> None:
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if n_heads < 1 or d_model < 1 or d_model % n_heads:
            raise ValueError(f"d_model must be a multiple of n_heads; saw d_model={d_model}, n_heads={n_heads}")
        if n_kv_heads < 1 or n_heads % n_kv_heads:
            raise ValueError(f"n_heads must be a multiple of n_kv_heads; saw {n_heads} and {n_kv_heads}")
        self.d_model, self.n_heads, self.n_kv_heads, self.head_size = d_model, n_heads, n_kv_heads, d_model // n_heads
        self.kernel = kernel_named(kernel)
        rows = d_model + 2 * n_kv_heads * self.head_size
        self.in_proj_weight = nn.Parameter(torch.empty(rows, d_model))  # (E + 2 Hkv D, E): rows of W_Q, W_K, W_V
        self.in_proj_bias = nn.Parameter(torch.zeros(rows)) if bias else None
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)
        nn.init.xavier_uniform_(self.in_proj_weight)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, cache: KVCache | None = None
    ) -> Tensor:
        """Attend among the tokens of x (B, T, E) -> (B, T, E); mask broadcastable to (B, H, T, T), as a kernel's.

        With a cache, x holds the tokens that follow those in it, which are keys as well: T keys become
        ``cache.length + T`` in the mask and in the meaning of ``causal``. Then x joins the cache.
        """
        weight = self.in_proj_weight
        check_tokens(x, self.d_model, weight)
        qkv = F.linear(x, weight, self.in_proj_bias)  # (B, T, E + 2 Hkv D)
        heads = (self.n_heads, self.n_kv_heads, self.head_size)
        out = attend_projected(self.kernel, qkv, heads, mask, causal=causal, cache=cache)  # (B, T, E)
        projected: Tensor = self.out_proj(out)
        return projected

    def make_cache(self, batch: int, capacity: int) -> KVCache:
        """Make an empty cache for so many sequences of at most ``capacity`` tokens, in the dtype of keys computed here.

        That is the dtype of the weights, or autocast's under autocast.
        """
        weight = self.in_proj_weight
        dtype = cast_dtype(weight)
        return KVCache(batch, self.n_kv_heads, capacity, self.head_size, dtype=dtype, device=weight.device)


@register_module("mhaloop")
class MultiHeadAttentionLoop(MultiHeadAttention):
    """The same attention as the formula states it, head by head: same parameters, same result; it takes no cache."""

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, cache: KVCache | None = None
    ) -> Tensor:
        """Attend among the tokens of x (B, T, E) -> (B, T, E); mask broadcastable to (B, H, T, T), as a kernel's."""
        if cache is not None:
            raise NotImplementedError("MultiHeadAttentionLoop does not support a cache: use MultiHeadAttention")
        weight, bias = self.in_proj_weight, self.in_proj_bias  # read once: a parametrization computes them each time
        check_tokens(x, self.d_model, weight)
        batch, tokens, _ = x.shape
        if mask is not None:
            check_mask(mask, (batch, self.n_heads, tokens, tokens), x.device)
            mask = mask.expand(batch, self.n_heads, tokens, tokens)
        group = self.n_heads // self.n_kv_heads
        outs = []
        for i in range(self.n_heads):
            rows = (i, self.n_heads + i // group, self.n_heads + self.n_kv_heads + i // group)
            q, k, v = (self._project(x, weight, bias, row) for row in rows)  # (B, 1, T, D) each
            head_mask = None if mask is None else mask[:, i : i + 1]
            outs.append(self.kernel(q, k, v, mask=head_mask, causal=causal).squeeze(1))  # (B, T, D)
        out: Tensor = self.out_proj(torch.cat(outs, dim=-1))
        return out

    def _project(self, x: Tensor, weight: Tensor, bias: Tensor | None, head: int) -> Tensor:
        """Project x (B, T, E) by the ``head``-th block of D rows of the fused weight: (B, 1, T, D)."""
        rows = slice(head * self.head_size, (head + 1) * self.head_size)
        return F.linear(x, weight[rows], None if bias is None else bias[rows]).unsqueeze(1)
