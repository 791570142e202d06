"""PyTorch's fused attention with one backend forced; requests that this backend cannot serve are refused."""

import threading
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .operators import REFUSED, flash, math
from .registry import FLOATING, Capabilities, Kernel, register
from .sdpa import sdpa

HALF = frozenset({torch.float16, torch.bfloat16})
# How PyTorch says that no backend is left, the last as a warning that the caller made an error.
REFUSALS = (REFUSED, "No viable backend", "kernel not used because")
_flags = threading.RLock()  # PyTorch chooses by flags of the whole process


ON_CPU = {"flash": flash, "math": math}  # the operators themselves, which heed no flags


def _force(name: str, backend: SDPBackend, capabilities: Capabilities) -> Kernel:
    @register(f"sdpa_{name}", capabilities)
    def forced(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
        """``sdpa`` with one backend and no other.

        On CUDA the backend is forced by flags of the whole process. Threads that force one wait for one another there;
        one that calls ``sdpa`` meanwhile may get the forced backend.

        Raises:
            NotImplementedError: PyTorch does not run the backend on these inputs; on CUDA its warnings say why.

        """
        try:
            if not q.is_cuda:
                if torch.is_autocast_enabled("cpu") and q.dtype != torch.float64:  # as PyTorch does by name
                    q, k, v = (t.to(torch.get_autocast_dtype("cpu")) for t in (q, k, v))
                return sdpa.function(q, k, v, mask=mask, causal=causal, scale=scale, by=ON_CPU[name])  # type: ignore[call-arg]  # sdpa's own
            with nullcontext() if torch.compiler.is_compiling() else _flags, sdpa_kernel(backend):
                return sdpa.function(q, k, v, mask=mask, causal=causal, scale=scale)
        except (RuntimeError, UserWarning) as error:
            if not any(refusal in str(error) for refusal in REFUSALS):
                raise
            reasons = "; its warnings say why" if q.is_cuda else ""
            raise NotImplementedError(
                f"PyTorch's {name} backend refuses q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, "
                f"{'no mask' if mask is None else 'a mask'}, {q.dtype}, {q.device}{reasons}"
            ) from error

    return forced


def _flash_obstacle(*, device: str, dtype: torch.dtype, mask: str | None, **_: object) -> str | None:
    if device != "cuda":
        return None
    if mask is not None:
        return f"a {mask} mask on {device}"
    return f"dtype {dtype} on {device}" if dtype not in HALF else _before_sm80()


def _cudnn_obstacle(**_: object) -> str | None:
    return _before_sm80()


def _before_sm80() -> str | None:
    if not torch.cuda.is_available():
        return None  # there is no GPU to be too old
    generation = torch.cuda.get_device_capability()
    return None if generation >= (8, 0) else "GPUs before sm80; this one is sm{}{}".format(*generation)


_CUDA = frozenset({"cuda"})
_force("flash", SDPBackend.FLASH_ATTENTION, Capabilities(value_size=False, obstacle=_flash_obstacle))
_force(
    "efficient",
    SDPBackend.EFFICIENT_ATTENTION,
    Capabilities(grouped=False, dtypes=FLOATING - {torch.float64}, devices=_CUDA),
)
_force("cudnn", SDPBackend.CUDNN_ATTENTION, Capabilities(dtypes=HALF, devices=_CUDA, obstacle=_cudnn_obstacle))
_force("math", SDPBackend.MATH, Capabilities())
