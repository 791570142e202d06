"""Kernels from outside the repository: import what ``--kernel`` names, and make it a ``Kernel`` by its signature."""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from attention import Kernel

from ..cases import DTYPES
from ..plain.errors import CannotDo

OURS = ("mask", "causal", "scale")
FLASH = ("softmax_scale", "causal")
PROBE_HEAD_SIZE = 64  # which every kernel of this kind takes
ACCEPTED = f"(q, k, v, *, {', '.join(OURS)}), as attention.Kernel's, or (q, k, v, {', '.join(FLASH)}), as flash_attn's"


def load(names: Iterable[str], devices: Sequence[str]) -> "Mapping[str, Kernel]":
    """Import ``package.module:function`` names, as kernels by function name.

    Raises:
        CannotDo: one cannot be imported, has neither signature, takes another's name, or runs on none of the devices.

    """
    kernels: dict[str, Kernel] = {}
    for name in names:
        function, attribute = _import(name)
        if attribute in kernels:
            raise CannotDo(f"--kernel={name}: another kernel is named {attribute!r} too: rename one")
        kernels[attribute] = _adapt(name, attribute, function, devices)
    return kernels


def _import(name: str) -> tuple[Callable[..., Any], str]:
    module, _, attribute = name.partition(":")
    try:
        function = reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:  # a module that quits must not end the run
        raise CannotDo(
            f"--kernel={name}: it cannot be imported ({type(error).__name__}: {error}): "
            "give an importable module and a function in it, as package.module:function"
        ) from error
    if not callable(function):
        raise CannotDo(f"--kernel={name}: {attribute} is not callable: name a kernel function")
    return function, attribute.rpartition(".")[2]


def _adapt(name: str, attribute: str, function: Callable[..., Any], devices: Sequence[str]) -> "Kernel":
    from attention.registry import Capabilities, Kernel  # noqa: PLC0415  # a side alone in its process does without

    if isinstance(function, Kernel):
        return function
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise CannotDo(f"--kernel={name}: its signature cannot be read ({error}): wrap it as {ACCEPTED}") from error
    if _takes(signature, OURS):
        return Kernel(attribute, function, Capabilities())
    if not _takes(signature, FLASH):
        raise CannotDo(f"--kernel={name}: its signature is {attribute}{signature}: wrap it as {ACCEPTED}")
    kernel = FlashLayout(function)
    refusals = [kernel.refusal(*kind, PROBE_HEAD_SIZE) for kind in product(devices, DTYPES.values())]
    if None not in refusals:
        raise CannotDo(f"--kernel={name}: no case can run here, since {refusals[-1]}: run where it is supported")
    return Kernel(attribute, kernel, Capabilities(masks=frozenset()))


def _takes(signature: inspect.Signature, options: tuple[str, ...]) -> bool:
    """Whether it can be called with three tensors and the options by name, none of which it merely lets through."""
    leading = list(signature.parameters.values())[:3]
    if any(p.default is not p.empty for p in leading) or not set(options) <= set(signature.parameters):
        return False
    try:
        signature.bind(*"qkv", **dict.fromkeys(options))
    except TypeError:
        return False
    return True


@dataclass(frozen=True)
class FlashLayout:
    """A function of flash_attn's signature as a kernel's: tokens before heads, no mask, the scale by another name.

    flash_attn_func of github.com/Dao-AILab/flash-attention takes q (B, Tq, Hq, D), k and v (B, Tk, Hkv, D), is causal
    bottom-right since version 2.1, and may return the log-sum-exp too since version 3. The transposes are views.
    """

    function: Callable[..., Any]
    refusals: dict[tuple[str, torch.dtype, int, bool], str | None] = field(default_factory=dict)  # by kind of request

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None
    ) -> Tensor:
        """Attend; arguments and shapes as ``attention.Kernel.__call__``.

        Raises:
            NotImplementedError: the function refuses the simplest request of this kind.

        """
        assert mask is None  # by the capabilities
        backward = torch.is_grad_enabled() and q.requires_grad
        refusal = self.refusal(q.device.type, q.dtype, q.shape[-1], backward=backward)
        if refusal is not None:
            raise NotImplementedError(refusal)
        return self._attend(q, k, v, causal=causal, scale=scale)

    def refusal(self, device: str, dtype: torch.dtype, head_size: int, *, backward: bool = False) -> str | None:
        """Say in the function's own words what it has against the simplest request of a kind; None if it serves that.

        Such functions declare nothing, and raise whatever comes first. One that refuses a single token does not support
        its kind; one that serves that and raises later is broken.
        """
        kind = (device, dtype, head_size, backward)
        if kind not in self.refusals:
            token = torch.zeros(1, 1, 1, head_size, dtype=dtype, device=device, requires_grad=backward)
            self.refusals[kind] = None
            try:
                with torch.set_grad_enabled(backward):
                    out = self._attend(token, token, token, causal=False, scale=None)
                    if backward:
                        torch.autograd.grad(out.sum(), token)
            except Exception as error:  # noqa: BLE001  # whatever it raises is its answer
                words = str(error).partition("\n")[0]
                self.refusals[kind] = (
                    f"it refuses {'a backward pass in ' if backward else ''}{dtype} with head size {head_size} on "
                    f"{device} ({type(error).__name__}: {words})"
                )
        return self.refusals[kind]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float | None) -> Tensor:
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        out = self.function(q, k, v, softmax_scale=scale, causal=causal)
        attended: Tensor = out[0] if isinstance(out, tuple) else out
        return attended.transpose(1, 2)
