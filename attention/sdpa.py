"""PyTorch's fused attention, corrected where PyTorch gets it wrong."""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake
from torch.utils._python_dispatch import _disable_current_modes

from .masked import masked
from .registry import Capabilities, register
from .sdpa_gpu import attend_on_gpu
from .shapes import causal_mask, under_jit_trace

VECTOR_LANES = 16  # fp32 values in the widest CPU register
FAR = -(2.0**20)  # at this size an fp32 value has few bits left for a score that is added to it


def _additive_triangle(n_queries: int, n_keys: int, like: Tensor) -> Tensor:
    """Make the causal mask (Tq, Tk) to add to scores: zero where a query sees a key, -inf elsewhere."""
    return like.new_full((n_queries, n_keys), -torch.inf).triu(n_keys - n_queries + 1)


@cache
def _kept_triangle(dtype: torch.dtype, n_queries: int, n_keys: int) -> Tensor:
    """Make a triangle on the CPU at its first use; for so few keys, making one takes half as long as attending.

    It outlives the call, so it is an ordinary tensor whatever mode or transform that call is under.
    """
    with torch.inference_mode(mode=False), _disable_current_modes(), torch._C._DisableFuncTorch():  # noqa: SLF001  # neither has a public name
        return _additive_triangle(n_queries, n_keys, torch.empty(0, dtype=dtype, device="cpu"))


@register("sdpa", Capabilities(traced=True))
def sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    causal: bool,
    scale: float | None,
    by: Callable[..., Tensor] | None = None,
) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention`` with this package's semantics (see ``Kernel.__call__``).

    ``by`` is called in its place on the CPU, with its arguments.

    Raises:
        NotImplementedError: under ``torch.func``, gradients beside a float mask that vmap hands out, or that lowers all
            that a row sees; under ``torch.jit.trace``, gradients beside any float mask.

    Corrected here, as seen with torch 2.13 on CPU: ``is_causal`` is aligned top-left, so it serves only Tq = Tk;
    ``is_causal`` with a mask; a mask of one dimension; ``is_causal`` with a scale of zero or below, which gives NaN;
    rows of NaN scores, which become zeros where there is no mask and fewer keys than a vector register holds; gradients
    where a float mask puts all that a row sees a million or more below zero, which the fused backend gets wrong, so
    they take the formula, except in a caller that is being compiled; Dv != D and a last stride other than 1, for which
    PyTorch silently takes the formula, with its score matrix; the older export to ONNX (``dynamo=False``), which
    refuses groups and makes rows that see no key NaN: it is given ``masked``. On CUDA: see ``attend_on_gpu``.
    Left as it is: PyTorch chooses the backend. On CPU a mask that requires a gradient takes the formula, since the
    fused backend has no such gradient. That backend
    - makes the row of a query that holds inf NaN, as the formula, or zero: it depends on dtype, keys and signs;
    - lets NaN and inf at a masked key reach every row, from k with a mask and from v in any case;
    - raises RuntimeError when a gradient is differentiated again.
    """
    (_, n_heads, n_queries, size), (_, n_kv_heads, n_keys, _) = q.shape, k.shape  # each read is a call into torch
    if type(n_keys) is not int and under_jit_trace() and torch.onnx.is_in_onnx_export():
        out: Tensor = masked.function(q, k, v, mask=mask, causal=causal, scale=scale)
        return out
    causal = causal and not (type(n_queries) is int and n_queries < 2)  # the last query sees every key
    if mask is None and (type(n_keys) is not int or n_keys < VECTOR_LANES) and q.is_cpu:  # a tracer's may be open
        mask, causal = _nan_keeping(q, n_queries if causal else 1, n_keys), False
    elif causal or mask is not None:
        mask, causal = _mask(q, n_queries, n_keys, mask, causal=causal)
        if causal and scale is not None and scale <= 0:
            q, scale = q * scale, 1.0
        if mask is not None and torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
            mask = _differentiable(mask)
    if not q.is_cpu:
        lowered, grouped = mask is not None and _lowers_a_row(mask), bool(n_heads != n_kv_heads)
        return attend_on_gpu(q, k, v, mask, causal=causal, scale=scale, grouped=grouped, lowered=lowered)
    v_size = v.shape[3]
    if not q.stride(3) == k.stride(3) == v.stride(3) == 1:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    if size != v_size:  # zeros behind q and k add nothing to their product
        scale = size**-0.5 if scale is None else scale
        q, k, v = (F.pad(x, (0, max(size, v_size) - x.shape[3])) for x in (q, k, v))
    out = (by or F.scaled_dot_product_attention)(
        q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=bool(n_heads != n_kv_heads)
    )
    return out if size == v_size else out[..., :v_size]


def _nan_keeping(q: Tensor, n_queries: int, n_keys: int) -> Tensor:
    """Make the mask that changes nothing but that NaN stays NaN; a tracer gets one of its own, for any sizes."""
    if torch.compiler.is_compiling() or type(q) is not Tensor or type(n_keys) is not int:
        return _additive_triangle(n_queries, n_keys, q)
    return _kept_triangle(q.dtype, n_queries, n_keys)


def _mask(q: Tensor, n_queries: int, n_keys: int, mask: Tensor | None, *, causal: bool) -> tuple[Tensor | None, bool]:
    """Rewrite (mask, causal) as an equivalent pair that PyTorch handles correctly."""
    if mask is not None:
        mask = torch.atleast_2d(mask)
        if mask.dtype != torch.bool:
            mask = mask.to(q.dtype)
    if not causal or (mask is None and n_queries == n_keys and not under_jit_trace()):
        return mask, causal
    triangle = causal_mask(n_queries, n_keys, q.device)
    if mask is None:
        return triangle, False
    if mask.dtype == torch.bool:
        return mask & triangle, False
    return mask.masked_fill(~triangle, -torch.inf), False


def _differentiable(mask: Tensor) -> Tensor:
    """Require the mask's gradient, for which PyTorch takes the formula, where the fused backend loses a row's sum."""
    if under_jit_trace() and mask.is_floating_point():
        raise NotImplementedError(
            "sdpa does not support gradients with a float mask under torch.jit.trace: trace it under torch.no_grad(), "
            "or trace 'masked'"
        )
    if mask.requires_grad or not mask.is_cpu or not _lowers_a_row(mask):
        return mask
    if torch._C._are_functorch_transforms_active():  # noqa: SLF001  # there is no public question
        raise NotImplementedError(
            "sdpa does not support gradients with a float mask that torch.func.vmap hands out, or that lowers all that "
            "a row sees, under torch.func: differentiate through 'masked'"
        )
    return mask.detach().requires_grad_()


def _lowers_a_row(mask: Tensor) -> bool:
    """Whether a float mask puts all that a row sees so far below zero that a fused backend loses the row's sum.

    On CUDA the answer waits for the device. Compiled and captured callers cannot be told, and get no.
    """
    if not (mask.is_floating_point() and mask.numel()):
        return False
    if torch.compiler.is_compiling() or under_jit_trace() or mask.is_meta or is_fake(mask):
        return False  # its values are not known
    if mask.is_cuda and torch.cuda.is_current_stream_capturing():
        return False  # nor can they be waited for
    highest = mask.amax(dim=-1)
    try:
        return bool(((highest < FAR) & (highest > -torch.inf)).any())
    except RuntimeError:
        if not torch._C._are_functorch_transforms_active():  # noqa: SLF001  # there is no public question
            raise
        return True  # for all that vmap lets us know
