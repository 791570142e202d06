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
    """``masked`` through ``torch.compile``, compiled at the first call of each shape; shapes as ``Kernel.__call__``.

    Tensors without data, and calls inside code that is being compiled, run the formula uncompiled.

    Raises:
        RuntimeError: a backward pass keeps its graph, a gradient is differentiated again, or there are too many shapes.

    """
    function: Any = masked.function
    if not is_traced(q):
        function = compile_whole(function)
    out: Tensor = function(q, k, v, mask=mask, causal=causal, scale=scale, **options)
    return out
