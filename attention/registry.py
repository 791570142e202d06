"""The registry: kernels by name, each with what it can do as data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from .validation import check_inputs

Module = TypeVar("Module", bound=nn.Module)
FLOATING = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


class AttentionFunction(Protocol):
    """What a kernel's author writes; the inputs it is given have been checked."""

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None,
        causal: bool,
        scale: float | None,
    ) -> Tensor: ...


@dataclass(frozen=True)
class Capabilities:
    """What a kernel supports. A request outside of it is refused, never served by something else.

    ``masks`` holds the kinds of ``mask`` it takes: ``"bool"``, ``"float"``. ``devices`` holds device types.
    """

    masks: frozenset[str] = frozenset({"bool", "float"})
    causal: bool = True
    grouped: bool = True
    backward: bool = True
    dtypes: frozenset[torch.dtype] = FLOATING
    devices: frozenset[str] = frozenset({"cpu", "cuda"})

    def lacks(
        self,
        *,
        mask: str | None,
        causal: bool,
        grouped: bool,
        dtype: torch.dtype,
        device: str,
        backward: bool = False,
    ) -> str | None:
        """Name the first capability that the request needs and the kernel lacks; None if it lacks none."""
        if mask is not None and mask not in self.masks:
            return f"a {mask} mask"
        if causal and not self.causal:
            return "causal attention"
        if grouped and not self.grouped:
            return "grouped queries"
        if dtype not in self.dtypes:
            return f"dtype {dtype}"
        if device not in self.devices and device != "meta":
            return f"device {device}"
        if backward and not self.backward:
            return "a backward pass"
        return None


@dataclass(frozen=True)
class Kernel:
    """A registered attention kernel: call it as ``kernel(q, k, v, *, mask=None, causal=False, scale=None)``."""

    name: str
    function: AttentionFunction
    capabilities: Capabilities

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        """Attend: ``softmax(scale * q k^T + mask) v``, query head ``h`` reading key head ``h // (Hq // Hkv)``.

        Args:
            q: queries (B, Hq, Tq, D).
            k: keys (B, Hkv, Tk, D), ``Hq % Hkv == 0``.
            v: values (B, Hkv, Tk, Dv).
            mask: broadcastable to (B, Hq, Tq, Tk). Bool: True = attend. Floating: added to the scaled scores, after
                rounding to q's dtype.
            causal: the last query sees every key and each earlier one sees one key less; needs ``Tq <= Tk``. A mask
                given as well also applies.
            scale: any float; None means ``1 / sqrt(D)``.

        Returns:
            (B, Hq, Tq, Dv). A query row that sees no key is zero, and so are its gradients.

        Raises:
            ValueError: shapes, dtypes or devices that do not go together; the message quotes them.
            NotImplementedError: a valid request that this kernel does not support.

        Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1; grouped queries: Ainslie et al. 2023.

        """
        check_inputs(q, k, v, mask, causal=causal)
        lacks = self.capabilities.lacks(
            mask=None if mask is None else "bool" if mask.dtype == torch.bool else "float",
            causal=causal,
            grouped=q.shape[1] != k.shape[1],
            dtype=q.dtype,
            device=q.device.type,
            backward=not self.capabilities.backward
            and torch.is_grad_enabled()
            and any(t.requires_grad for t in (q, k, v, mask) if t is not None),
        )
        if lacks is not None:
            raise NotImplementedError(f"kernel {self.name!r} does not support {lacks}")
        return self.function(q, k, v, mask=mask, causal=causal, scale=scale)


KERNELS: dict[str, Kernel] = {}
MODULES: dict[str, type[nn.Module]] = {}


def register(name: str, capabilities: Capabilities = Capabilities()) -> Callable[[AttentionFunction], Kernel]:
    """Register the decorated function as kernel ``name``; the name it is bound to becomes the ``Kernel``.

    Raises:
        ValueError: the name is taken.

    """

    def add(function: AttentionFunction) -> Kernel:
        if name in KERNELS:
            raise ValueError(f"a kernel named {name!r} is registered already")
        KERNELS[name] = Kernel(name, function, capabilities)
        return KERNELS[name]

    return add


def register_module(name: str) -> Callable[[type[Module]], type[Module]]:
    """Register the decorated multi-head module; it is built as ``cls(d_model, n_heads, n_kv_heads=...)``.

    Raises:
        ValueError: the name is taken.

    """

    def add(cls: type[Module]) -> type[Module]:
        if name in MODULES:
            raise ValueError(f"a module named {name!r} is registered already")
        MODULES[name] = cls
        return cls

    return add
