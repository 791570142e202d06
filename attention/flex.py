"""FlexAttention: PyTorch's compiled attention, which skips hidden blocks of scores."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from . import compiling
from .masked import masked
from .registry import FLOATING, Capabilities, register
from .scoring import cap

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # batch, head, query, key -> whether the query sees it
LEAST_HEAD_SIZE = {"cuda": 16}  # of q, k and v, as PyTorch has it


def _obstacle(*, device: str, backward: bool, **_: object) -> str | None:
    return compiling.obstacle(device=device) or (_obstacle_on_cpu(backward=backward) if device == "cpu" else None)


def _obstacle_on_cpu(*, backward: bool) -> str | None:
    if backward:
        return "a backward pass on cpu"
    if torch.compiler.is_compiling() or compiling.vector_bits() is not None:
        return None
    seen = torch.backends.cpu.get_cpu_capability()
    return f"device cpu here: PyTorch's FlexAttention needs AVX2, and uses {seen} on this CPU"


@register(
    "flex",
    Capabilities(window=True, softcap=True, sinks=True, dtypes=FLOATING - {torch.float64}, obstacle=_obstacle),
)
def flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    causal: bool,
    scale: float | None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """``torch.nn.attention.flex_attention``, compiled for each shape at its first call; see ``Kernel.__call__``.

    The blocks that ``causal`` and ``window`` hide are found once a shape, those that a bool mask hides at each call; a
    float mask is added to the scores. On CPU there is no backward pass. NaN differs from the formula: a query whose
    every score is NaN gets a finite row, and NaN or inf in v at a hidden key can reach every row.

    Tensors without data, and callers that are being compiled themselves, get the formula as it is.

    Raises:
        NotImplementedError: a head size below 16 on CUDA; a CPU without AVX2.
        RuntimeError: too many shapes.

    Source: Dong et al. 2024, "Flex Attention: A Programming Model for Generating Optimized Attention Kernels".

    """
    if compiling.is_traced(q):
        formula: Any = masked.function
        out: Tensor = formula(
            q, k, v, mask=mask, causal=causal, scale=scale, window=window, softcap=softcap, sinks=sinks
        )
        return out
    if 0 in (q.numel(), k.numel(), v.numel()):
        return q.new_zeros(*q.shape[:3], v.shape[3])  # PyTorch's kernel would divide by zero and end the process
    least = LEAST_HEAD_SIZE.get(q.device.type, 1)
    if min(q.shape[3], v.shape[3]) < least:
        raise NotImplementedError(
            f"flex on {q.device.type} needs head sizes of at least {least}; saw q {tuple(q.shape)}, v {tuple(v.shape)}"
        )
    (batch, n_heads, n_queries, _), n_keys = q.shape, k.shape[2]
    if q.device.type == "cpu":  # FlexAttention refuses tensors that require a gradient, even under no_grad
        q, k, v = q.detach(), k.detach(), v.detach()
    window = None if window is None else min(window, n_queries + n_keys)  # beyond that it hides nothing
    every = None if mask is None else mask.expand(batch, n_heads, n_queries, n_keys)
    sink = None if sinks is None else n_keys  # one more key at this position, which every query sees; its value is zero
    if sink is not None:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        every = None if every is None else F.pad(every, (0, 1), value=every.dtype == torch.bool)
    blocks: BlockMask | None
    if every is not None and every.dtype == torch.bool:
        seen = _both(_band(n_keys - n_queries, causal=causal, window=window, sink=sink), every)
        blocks, bias = create_block_mask(seen, batch, n_heads, n_queries, k.shape[2], device=q.device), None
    else:
        blocks = _band_blocks(n_queries, n_keys, q.device, causal=causal, window=window, sink=sink)
        bias = None if every is None else every.to(q.dtype)
    score = _score(softcap, bias, sinks, sink)
    attend = compiling.compile_whole(_attend)
    rows: Tensor = attend(q, k, v, score_mod=score, block_mask=blocks, scale=scale, enable_gqa=n_heads != k.shape[1])
    return rows


def _attend(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, **options: Any) -> Tensor:
    """Call ``flex_attention`` so that on CPU it stays within its memory.

    Generated for AVX2, at a head size of 8 or 16, PyTorch's kernel scores 16 keys at a time even where 8 are left: it
    reads beyond k, and overwrites the highest scores and the sums of the first queries (torch 2.13,
    ``CppMicroGemmFP32Vec`` since pytorch/pytorch#147068). With any other head size, and for AVX-512, it scores as many
    keys as there are, so q and k get one more feature, of zeros, which changes no score.

    What is compiled is this function and not PyTorch's: two copies of this module would share the code for that one.
    """
    scale = q.shape[3] ** -0.5 if scale is None else scale
    if q.device.type == "cpu" and q.shape[3] in (8, 16) and k.shape[2] % 16 == 8:
        q, k = F.pad(q, (0, 1)), F.pad(k, (0, 1))
    attend: Any = flex_attention
    rows: Tensor = attend(q, k, v, scale=scale, **options)
    return rows


def _band(offset: int, *, causal: bool, window: int | None, sink: int | None) -> MaskMod:
    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:  # noqa: ARG001  # the signature is PyTorch's
        position = i + offset
        visible = j <= position if causal else j >= 0
        if window is not None:
            visible = visible & (j > position - window) & (j < position + window)
        return visible if sink is None else visible | (j == sink)

    return seen


def _both(near: MaskMod, mask: Tensor) -> MaskMod:
    return lambda b, h, i, j: near(b, h, i, j) & mask[b, h, i, j]


def _score(
    softcap: float | None, bias: Tensor | None, sinks: Tensor | None, sink: int | None
) -> Callable[..., Tensor] | None:
    """Make what caps a score, adds the bias (B, Hq, Tq, Tk), and gives the sink its logit; None if nothing does."""
    if softcap is None and bias is None and sinks is None:
        return None

    def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        score = cap(score, softcap)
        if bias is not None:
            score = score + bias[b, h, i, j]
        if sinks is None or sink is None:
            return score
        return torch.where(torch.eq(j, sink), sinks[h].to(score.dtype), score)

    return score_mod


@lru_cache(maxsize=compiling.RECOMPILE_LIMIT)
def _band_blocks(
    n_queries: int, n_keys: int, device: torch.device, *, causal: bool, window: int | None, sink: int | None
) -> BlockMask | None:
    if not causal and window is None:
        return None
    with torch.inference_mode(mode=False):  # cached: a tensor made in inference mode fails elsewhere
        seen = _band(n_keys - n_queries, causal=causal, window=window, sink=sink)
        return create_block_mask(seen, None, None, n_queries, n_keys + (sink is not None), device=device)
