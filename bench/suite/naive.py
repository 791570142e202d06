"""The yardstick: naive attention in the dtype of its inputs. Its error says how much error is normal.

It is part of the gate and not of ``attention/``, so that no change to what is measured can loosen it.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

SPLIT_BITS = 20  # at which the memory-efficient backend uses at most 70% of its budget on an H100; at 21 bits, 101%

Attend = Callable[..., Tensor]  # the yardstick or the oracle: arguments as ``naive_attention``


def naive_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    causal: bool,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Score, scale, cap, mask, softmax, weigh, each step rounded to q's dtype: (B, Hq, Tq, Dv).

    On CUDA, fp32 operands of a product are rounded first: see ``operand``.
    """
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scaled = q / q.shape[-1] ** 0.5 if scale is None else q * scale
    scores = operand(scaled) @ operand(k).transpose(-2, -1)  # (B, Hq, Tq, Tk)
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device)
    if causal:
        visible = visible.tril(k.shape[-2] - q.shape[-2])
    if window is not None:
        own = k.shape[-2] - q.shape[-2]
        visible = visible.tril(own + window - 1).triu(own - window + 1)
    if mask is not None and mask.dtype == torch.bool:
        visible = visible & mask
    elif mask is not None:
        scores = scores + mask.to(q.dtype)
    scores = scores.masked_fill(~visible, -torch.inf)
    unseeing = (scores == -torch.inf).all(dim=-1, keepdim=True)
    scores = scores.masked_fill(unseeing, 0.0)
    if sinks is not None:
        scores = torch.cat([scores, sinks[:, None, None].expand(*scores.shape[:-1], 1)], dim=-1)
    weights = scores.softmax(dim=-1)[..., : k.shape[-2]].masked_fill(unseeing, 0.0)
    out: Tensor = operand(weights) @ operand(v)
    return out


def operand(x: Tensor) -> Tensor:
    """Return what a fast kernel multiplies instead of x: on CUDA, an fp32 value of fewer bits.

    Tensor cores multiply fp32 as three products of TF32 values, which PyTorch's memory-efficient backend does, and a
    Triton kernel with ``input_precision="tf32x3"``. A single product of TF32 values, of 11 bits, stays far outside.
    """
    return rounded(x) if x.is_cuda and x.dtype == torch.float32 else x


def rounded(x: Tensor) -> Tensor:
    """Round fp32 values to ``SPLIT_BITS`` significant bits; the gradient passes as it is."""
    dropped = 24 - SPLIT_BITS
    bits = x.detach().view(torch.int32) + (1 << (dropped - 1))
    nearest = (bits & -(1 << dropped)).view(torch.float32)
    return x + (nearest - x.detach()).nan_to_num(nan=0.0)  # inf stays inf


def naive_module(
    x: Tensor,
    parameters: Mapping[str, Tensor],
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    n_heads: int,
    n_kv_heads: int,
) -> Tensor:
    """Compute the module that has these parameters on x (B, T, E), with ``attend`` as its attention: (B, T, E).

    They are those of ``torch.nn.MultiheadAttention``, or of ``torch.nn.TransformerEncoderLayer(norm_first=True)``.
    """
    heads = {"n_heads": n_heads, "n_kv_heads": n_kv_heads}
    if "norm1.weight" not in parameters:
        return naive_multihead(x, parameters, attend, **heads)
    prefix = "self_attn."
    own = {name.removeprefix(prefix): p for name, p in parameters.items() if name.startswith(prefix)}
    # PyTorch's own norm, in half precision too: it is not what is judged.
    x = x + naive_multihead(
        F.layer_norm(x, x.shape[-1:], parameters["norm1.weight"], parameters["norm1.bias"]), own, attend, **heads
    )
    normed = F.layer_norm(x, x.shape[-1:], parameters["norm2.weight"], parameters["norm2.bias"])
    wide = normed @ parameters["linear1.weight"].T
    return x + (wide + parameters["linear1.bias"]).relu() @ parameters["linear2.weight"].T + parameters["linear2.bias"]


def naive_multihead(
    x: Tensor,
    parameters: Mapping[str, Tensor],
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    n_heads: int,
    n_kv_heads: int,
) -> Tensor:
    """Multi-head self-attention of x (B, T, E) from the parameters of ``torch.nn.MultiheadAttention``: (B, T, E)."""
    batch, tokens, d_model = x.shape
    kv_size = d_model // n_heads * n_kv_heads
    projected = x @ parameters["in_proj_weight"].T + parameters["in_proj_bias"]
    q, k, v = (
        part.reshape(batch, tokens, heads, d_model // n_heads).transpose(1, 2)  # (B, heads, T, D)
        for part, heads in zip(
            projected.split((d_model, kv_size, kv_size), dim=-1), (n_heads, n_kv_heads, n_kv_heads), strict=True
        )
    )
    out = attend(q, k, v).transpose(1, 2).reshape(batch, tokens, d_model)
    return out @ parameters["out_proj.weight"].T + parameters["out_proj.bias"]
