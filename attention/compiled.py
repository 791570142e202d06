"""The attention formula through ``torch.compile``."""

from typing import Any

from torch import Tensor

from .compiling import compile_whole, is_traced, obstacle
from .masked import masked
from .registry import Capabilities, register


@register("compiled", Capabilities(softcap=True, sinks=True, obstacle=obstacle))
def compiled(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None, **options: Any
) -> Tensor:
    """``masked`` through ``torch.compile``, for each shape at its first call; see ``Kernel.__call__`` for the shapes.

    Tensors without data, and callers that are being compiled themselves, get the formula as it is.

    Raises:
        RuntimeError: a graph is kept for a second backward pass; a gradient is differentiated again; too many shapes.

    """
    function: Any = masked.function
    if not is_traced(q):
        function = compile_whole(function)
    out: Tensor = function(q, k, v, mask=mask, causal=causal, scale=scale, **options)
    return out
