"""Makes tensors as a case's id asks: hidden keys, the size of scores, the layout in memory."""

from itertools import cycle

import torch
from torch import Tensor

from .cases import DTYPES, Case, Mask

NORMAL_SCORE = 4.0  # about the largest of standard normal inputs
# About how far from zero large scores are: exp overflows above that in the dtype, and is zero below its negative.
LARGE_SCORES = {"fp32": 300.0, "bf16": 300.0, "fp16": 20.0}
_PEAK = 46.0  # of every q and k where scores are peaked: 46 * 46 * 64 is beyond fp16, and an eighth of it is not
_GAP = 3.0  # what lies beside a slice
_MIXED = ("transposed", "sliced", "columns")  # of q, k and v


def enlarge(case: Case, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Make the scores of q (B, Hq, Tq, D) and k (B, Hkv, Tk, D) what the case says, in float32.

    Large scores are so for all keys of a query, alternately above and below zero, and differ among keys as before: one
    feature of every key is 1. Peaked scores are largest at the query's own key.
    """
    shape = case.shape
    if shape.scores == "large":
        scale = shape.head_size**-0.5 if shape.scale is None else shape.scale
        q, k = q.clone(), k.clone()
        k[..., 0] = 1.0
        q[..., 0] = LARGE_SCORES[case.dtype] / scale * (1 - 2 * (torch.arange(shape.queries) % 2))
    elif shape.scores == "peaked":
        k = _PEAK * k.sign()
        own = torch.arange(shape.keys - shape.queries, shape.keys) % shape.keys
        q = k.repeat_interleave(shape.heads // shape.kv_heads, dim=1)[:, :, own].clone()
    return q, k


def laid_out(tensors: dict[str, Tensor], layout: str | None) -> dict[str, Tensor]:
    """Return q, k, v (B, H, T, D), or x (B, T, E) alone, in another layout of memory; expanded ones repeat values."""
    if layout == "fused" and "x" not in tensors:
        sizes = [t.shape[1] for t in tensors.values()]
        fused = torch.cat([t.transpose(1, 2) for t in tensors.values()], dim=2)  # (B, T, H + 2 Hkv, D)
        return dict(zip(tensors, fused.transpose(1, 2).split(sizes, dim=1), strict=True))
    if layout == "expanded":  # x and q along the batch, k and v along the heads
        return {name: (t[:, :1] if name in ("k", "v") else t[:1]).expand_as(t) for name, t in tensors.items()}
    if layout == "mixed":
        return {name: _lying(t, one) for (name, t), one in zip(tensors.items(), cycle(_MIXED), strict=False)}
    return {name: _lying(t, layout) for name, t in tensors.items()}


def upstream_laid_out(gradient: Tensor, layout: str | None) -> Tensor:
    """Return the gradient of an output in the layout that the next layer would give it; ones if that layer is a sum."""
    if layout == "expanded":
        return gradient.new_ones(()).expand(gradient.shape)
    return _lying(gradient, "transposed" if layout in ("fused", "mixed") else layout)


def _lying(tensor: Tensor, layout: str | None) -> Tensor:
    if layout == "transposed":
        dims = (0, 1) if tensor.dim() == 3 else (1, 2)
    elif layout == "columns":
        dims = (-2, -1)
    elif layout == "sliced":
        larger = tensor.new_full([size + 3 for size in tensor.shape], _GAP)
        part = larger[tuple(slice(1, size + 1) for size in tensor.shape)]
        part.copy_(tensor)
        return part
    else:
        return tensor
    return tensor.transpose(*dims).contiguous().transpose(*dims)


def mask(case: Case, generator: torch.Generator) -> Tensor | None:
    """Make a case's mask; none where it has none, or one that is learned, which is among the inputs.

    A bool mask hides one key in five, and everything from the first of several queries or, without queries, in the
    last of several items. Float masks hide as much; by themselves they hold a bias by distance, with other sizes a
    random one.
    """
    hiding, size, shape = case.hiding, case.mask_shape, case.shape
    if size is None or hiding.learned:
        return None
    made = _mask(case, hiding, size, generator).to(case.device)
    if shape.layout == "expanded":
        return made.expand(shape.batch, shape.heads, shape.queries, shape.keys)
    return _lying(made, shape.layout) if made.dim() == 4 and shape.layout in ("sliced", "columns") else made


def _mask(case: Case, hiding: Mask, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
    shape, dtype = case.shape, DTYPES[case.dtype]
    if hiding.word == "true":
        return torch.ones(size, dtype=torch.bool)
    if hiding.word == "padding":
        lengths = shape.keys * torch.arange(shape.batch, 0, -1) // (shape.batch + 1)
        return (torch.arange(shape.keys) < lengths[:, None])[:, None, None].expand(size).clone()
    by_distance = hiding.word == "float" and hiding.sizes == "hqk"
    visible = torch.rand((shape.batch, 1, *size[2:]) if by_distance else size, generator=generator) < 0.8
    if "q" in hiding.sizes:
        visible[..., : int(shape.queries > 1), :] = False
    elif "b" in hiding.sizes and shape.batch > 1:
        visible[-1] = False
    if hiding.word == "bool":
        return visible
    if hiding.word == "low":
        return torch.zeros(size, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    if not by_distance:
        return torch.randn(size, generator=generator).masked_fill(~visible, -torch.inf).to(dtype)
    slopes = 2.0 ** -torch.arange(1, shape.heads + 1)  # as ALiBi's (Press et al. 2022)
    query, key = torch.arange(shape.queries), torch.arange(shape.keys)
    distance = (query[:, None] + (shape.keys - shape.queries) - key).abs()
    bias = (-slopes[:, None, None] * distance).masked_fill(~visible[:1], -torch.inf)  # (1, H, Tq, Tk)
    return bias.to(dtype)
