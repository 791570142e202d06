"""The attention formula as it is written, without a mask."""

from torch import Tensor

from .registry import Capabilities, register
from .shapes import regroup


@register("manual", Capabilities(masks=frozenset(), causal=False, traced=True))
def manual(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,  # noqa: ARG001  # None, by the capabilities
    causal: bool,  # noqa: ARG001  # False, likewise
    scale: float | None,
) -> Tensor:
    """``softmax(q k^T / sqrt(D)) v`` (Vaswani et al. 2017, equation 1); see ``Kernel.__call__`` for the shapes."""
    n_heads, n_kv_heads = q.shape[1], k.shape[1]
    if scale is None:
        scale = q.shape[-1] ** -0.5
    # Scaling q rather than the scores keeps large scores inside the range of fp16.
    scores = regroup(q * scale, n_kv_heads) @ k.transpose(-2, -1)  # (B, Hkv, G * Tq, Tk)
    weights = scores.softmax(dim=-1)  # (B, Hkv, G * Tq, Tk)
    return regroup(weights @ v, n_heads)  # (B, Hq, Tq, Dv)
