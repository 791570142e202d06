"""Two backends of PyTorch's fused attention, called as operators, so no flag of the process chooses another one.

Each takes the arguments of ``scaled_dot_product_attention``, except dropout; shapes as ``Kernel.__call__``.
"""

import torch
from torch import Tensor

REFUSED = "No available kernel"  # PyTorch's own words where no backend can serve a request
GROUPS_BY_SHAPE = torch.__version__ >= (2, 13)  # type: ignore[operator]  # TorchVersion compares with tuples


def flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    """PyTorch's flash attention for the CPU.

    Raises:
        RuntimeError: an empty input, or a mask that requires a gradient.

    """
    if 0 in (q.numel(), k.numel()) or (attn_mask is not None and attn_mask.requires_grad):
        raise RuntimeError(REFUSED)
    if attn_mask is not None and attn_mask.dim() == 3:  # it takes two dimensions or four
        attn_mask = attn_mask.unsqueeze(0)
    if enable_gqa and not GROUPS_BY_SHAPE:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    attend = torch._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001  # it has no public name
    out: Tensor = attend(q, k, v, 0.0, is_causal, attn_mask=_additive(attn_mask, q.dtype), scale=scale)[0]
    return out


def math(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    attn_mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    """PyTorch's math backend, on any device."""
    attend = torch.ops.aten._scaled_dot_product_attention_math  # noqa: SLF001  # it has no public name
    out: Tensor = attend(q, k, v, _additive(attn_mask, q.dtype), 0.0, is_causal, scale=scale, enable_gqa=enable_gqa)[0]
    return out


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return a mask in the form that is added to scores: True becomes 0, and False becomes -inf."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)
