"""PyTorch's fused attention, with the cases it gets wrong put right."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .registry import register
from .shapes import causal_mask


@register("sdpa")
def sdpa(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention`` with this package's semantics (see ``Kernel.__call__``).

    Corrected here, as seen with torch 2.13 on CPU: ``is_causal`` is aligned top-left, so it serves only Tq = Tk;
    ``is_causal`` with a mask; a mask of one dimension; ``is_causal`` with a scale of zero or below, which gives NaN.
    Left as it is: PyTorch chooses the backend. On CPU, Dv != D, a mask that requires a gradient, or a last stride other
    than 1 take the slower formula (same result), and the fused backend
    - turns a query row of NaN into zeros, unless there is a mask;
    - lets NaN and inf at a masked key reach every row, from k with a mask and from v in any case;
    - raises RuntimeError when a gradient is differentiated again.
    """
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    if causal and n_queries == 1:
        causal = False  # the last query sees every key
    if causal and (mask is not None or n_queries != n_keys):
        triangle = causal_mask(n_queries, n_keys, q.device)
        if mask is None:
            mask = triangle
        elif mask.dtype == torch.bool:
            mask = mask & triangle
        else:
            mask = mask.masked_fill(~triangle, -torch.inf)
        causal = False
    if mask is not None:
        mask = torch.atleast_2d(mask)
        if mask.dtype != torch.bool:
            mask = mask.to(q.dtype)
    if causal and scale is not None and scale <= 0:
        q, scale = q * scale, 1.0
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
