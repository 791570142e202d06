"""What a call executed, told without a clock: aten ops, SDPA backend, bytes alive and allocated, compiled graphs."""

from collections.abc import Callable
from typing import Any

import torch

from ..plain.execution import Compilation, Fingerprint, Pass
from .compilation import Counters, counters
from .op_trace import OpTrace
from .profiling import ProfileTrace
from .sdpa_calls import sdpa_calls

# The backend of scaled_dot_product_attention by its aten op. The formula (math) is the last resort, which SDPA takes
# without a word when no fused backend accepts the inputs.
BACKENDS = {
    "aten._scaled_dot_product_flash_attention_for_cpu": "flash",
    "aten._scaled_dot_product_flash_attention": "flash",
    "aten._scaled_dot_product_efficient_attention": "efficient",
    "aten._scaled_dot_product_cudnn_attention": "cudnn",
    "aten._safe_softmax": "math",
}

Forward = Callable[[], Any]
Backward = Callable[[Any], object]


def fingerprint(
    forward: Forward,
    backward: Backward | None = None,
    *,
    device: str = "cpu",
    compiled: Counters | None = None,
    recorder: OpTrace | None = None,
) -> Fingerprint:
    """Run the call, untimed, and say what it executed; ``backward`` is given what ``forward`` returns.

    ``compiled`` says what torch.compile did in the first call of this kind, if it did anything; this one is then a
    repetition, and whatever it compiles again is a recompile. ``recorder`` is what watches code that is not compiled,
    if more is to be asked of it than the fingerprint.
    """
    before = counters()
    is_compiled = compiled is not None and compiled.any
    first, second = _passes(ProfileTrace() if is_compiled else recorder or OpTrace(), forward, backward, device)
    backends = sorted({name for op, name in BACKENDS.items() if op in first.ops})
    backend = ", ".join(backends) or None
    if compiled is None or not is_compiled:
        return Fingerprint(first, second, backend, sdpa_calls(forward) if backends else ())
    breaks = tuple(reason for reason, n in sorted(compiled.breaks.items()) for _ in range(n))
    compilation = Compilation(compiled.graphs, breaks, counters().since(before).graphs, compiled.kernels)
    return Fingerprint(first, second, backend, compilation=compilation)


def _passes(
    trace: OpTrace | ProfileTrace, forward: Forward, backward: Backward | None, device: str
) -> tuple[Pass, Pass | None]:
    memory = _DeviceMemory() if device == "cuda" else None

    def end_pass() -> Pass:
        seen = trace.end_pass()
        return seen if memory is None else Pass(seen.ops, *memory.end_pass())

    with trace.watching():
        out = forward()
    first = end_pass()
    if backward is None:
        return first, None
    with trace.watching():
        gradients = backward(out)
    second = end_pass()
    del gradients  # keeps it alive until here, as the timed call does
    return first, second


class _DeviceMemory:
    """The bytes of a call, pass by pass, by the CUDA allocator's account."""

    def __init__(self) -> None:
        self._before = self._start()

    def end_pass(self) -> tuple[int, int]:
        """Return the peak, above what was alive before the call, and what was allocated since the last pass ended."""
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - self._before
        allocated = self._total() - self._allocated
        self._start()
        return peak, allocated

    def _start(self) -> int:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self._allocated = self._total()
        return torch.cuda.memory_allocated()

    @staticmethod
    def _total() -> int:
        return int(torch.cuda.memory_stats().get("allocated_bytes.all.allocated", 0))
