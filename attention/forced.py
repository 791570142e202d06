"""PyTorch's fused attention with one backend forced; requests that this backend cannot serve are refused."""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .registry import FLOATING, Capabilities, Kernel, register
from .sdpa import sdpa

HALF = frozenset({torch.float16, torch.bfloat16})
# How PyTorch says that no backend is left, the last as a warning that the caller made an error.
REFUSALS = ("No available kernel", "No viable backend", "kernel not used because")


def _force(name: str, backend: SDPBackend, capabilities: Capabilities) -> Kernel:
    @register(f"sdpa_{name}", capabilities)
    def forced(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
        """``sdpa`` with one backend and no other.

        Raises:
            NotImplementedError: PyTorch does not run the backend on these inputs; its warnings say why.

        """
        try:
            with sdpa_kernel(backend):
                return sdpa.function(q, k, v, mask=mask, causal=causal, scale=scale)
        except (RuntimeError, UserWarning) as error:
            if not any(refusal in str(error) for refusal in REFUSALS):
                raise
            raise NotImplementedError(
                f"PyTorch's {name} backend refuses q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, "
                f"{'no mask' if mask is None else 'a mask'}, {q.dtype}, {q.device}; its warnings say why"
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
