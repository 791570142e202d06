"""The registry: kernels by name, with their capabilities as data."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pickle import PicklingError
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from .shapes import under_jit_trace
from .validation import check_inputs, real

Module = TypeVar("Module", bound=nn.Module)
# Optional arguments of a call: the capability that each needs -> its name in messages. A kernel that does not claim the
# capability never receives the argument.
OPTIONS = {"window": "a window", "softcap": "a cap on scores", "sinks": "sinks"}
FLOATING = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


class AttentionFunction(Protocol):
    """The function that a kernel's author writes. Its inputs have been checked.

    For each capability of ``OPTIONS`` that the kernel claims, it takes one more argument of that name, None by default.
    """

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


class Obstacle(Protocol):
    """Names what a kernel lacks for a request where no field of ``Capabilities`` can express it; None if nothing.

    Such as a limit that holds on one device only, or what this machine lacks (a compiler, a newer GPU).
    """

    def __call__(self, *, device: str, dtype: torch.dtype, mask: str | None, backward: bool) -> str | None: ...


@dataclass(frozen=True)
class Capabilities:
    """What a kernel supports. Any other request is refused, never served by another kernel.

    ``masks`` holds the kinds of ``mask`` it takes: ``"bool"``, ``"float"``. ``window``: it can limit how far a query
    sees; ``windowless``: it works without such a limit. ``softcap``, ``sinks``: it can cap scores, and add a logit per
    head. ``value_size``: v may have another head size than k. ``traced``: a ``torch.jit.trace`` of it is right for
    other batches and numbers of tokens. ``devices`` holds device types; ``obstacle`` is asked last.
    """

    masks: frozenset[str] = frozenset({"bool", "float"})
    causal: bool = True
    grouped: bool = True
    backward: bool = True
    dtypes: frozenset[torch.dtype] = FLOATING
    devices: frozenset[str] = frozenset({"cpu", "cuda"})
    window: bool = False
    windowless: bool = True
    softcap: bool = False
    sinks: bool = False
    value_size: bool = True
    traced: bool = False
    obstacle: Obstacle | None = None

    def lacks(  # noqa: C901  # one line a capability
        self,
        *,
        mask: str | None,
        causal: bool,
        grouped: bool,
        dtype: torch.dtype,
        device: str,
        backward: bool = False,
        value_size: bool = False,
        **options: object,
    ) -> str | None:
        """Name the first capability that the request needs and the kernel lacks; None if it lacks none.

        ``options`` holds arguments named in ``OPTIONS``; an argument that is None is not asked for.
        """
        if mask is not None and mask not in self.masks:
            return f"a {mask} mask"
        if causal and not self.causal:
            return "causal attention"
        for name, value in options.items():
            if value is not None and not getattr(self, name):
                return OPTIONS[name]
        if grouped and not self.grouped:
            return "grouped queries"
        if dtype not in self.dtypes:
            return f"dtype {dtype}"
        if device not in self.devices and device != "meta":
            return f"device {device}"
        if backward and not self.backward:
            return "a backward pass"
        if options.get("window") is None and not self.windowless:
            return "attention without a window"
        if value_size and not self.value_size:
            return "values with a head size of their own"
        if not self.traced and under_jit_trace():
            return "torch.jit.trace, and so torch.onnx.export(dynamo=False): use torch.export, or trace 'sdpa'"
        if self.obstacle is None or device == "meta":
            return None
        return self.obstacle(device=device, dtype=dtype, mask=mask, backward=backward)


@dataclass(frozen=True)
class Kernel:
    """A registered kernel: call it as ``kernel(q, k, v, *, mask=None, causal=False, scale=None)``, and ``OPTIONS``.

    It is pickled by its name; a copy of it is the same object.
    """

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
        window: int | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Attend: ``softmax(scale * q k^T + mask) v``, query head ``h`` reading key head ``h // (Hq // Hkv)``.

        Args:
            q: queries (B, Hq, Tq, D).
            k: keys (B, Hkv, Tk, D), ``Hq % Hkv == 0``.
            v: values (B, Hkv, Tk, Dv).
            mask: broadcastable to (B, Hq, Tq, Tk). Bool: True = attend. Floating: added to the scaled scores, after
                rounding to q's dtype.
            causal: the last query sees every key and each earlier one sees one key less; needs ``Tq <= Tk``. If there
                is a mask too, both apply.
            scale: any real number; None means ``1 / sqrt(D)``. To learn a scale, multiply q by it and give
                ``scale=1.0``.
            window: how many keys a query sees to each side, including the key at its own position. The last query has
                the position of the last key; a query at position p sees the keys j with ``|p - j| < window``, with
                ``causal`` those with ``p - window < j <= p``. None: no limit.
            softcap: scores become ``softcap * tanh(scores / softcap)``, after the scale, before the mask. None: no cap.
            sinks: (Hq,), floating: for each head one more logit in the sum of the softmax, without a value. None: no
                sinks.

        Returns:
            (B, Hq, Tq, Dv). A query row that sees no key is zero, and so are its gradients.

        Raises:
            ValueError: shapes, dtypes or devices that do not go together, tensors that are not dense (nested, sparse),
                a causal that is no bool, a scale that is no number, a window that is not a whole number from 1, or a
                softcap that is not above zero; the message quotes them.
            NotImplementedError: a valid request that this kernel does not support.

        Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1; grouped queries: Ainslie et al. 2023;
        ``softcap`` and ``sinks``: ``scoring.py``.

        """
        options: Any = {}
        if (
            window is not None or softcap is not None or sinks is not None
        ):  # without options, skipping this saves a microsecond
            asked = {"window": window, "softcap": softcap, "sinks": sinks}
            options = {name: value for name, value in asked.items() if value is not None}
        grouped, value_size = check_inputs(q, k, v, mask, causal=causal, **options)
        if scale is not None and type(scale) is not float:
            scale = real(scale)
        can = self.capabilities
        lacks = can.lacks(
            mask=None if mask is None else "bool" if mask.dtype == torch.bool else "float",
            causal=causal,
            grouped=grouped,
            dtype=q.dtype,
            device=q.device.type,
            backward=(not can.backward or can.obstacle is not None)
            and torch.is_grad_enabled()
            and any(t.requires_grad for t in (q, k, v, mask, sinks) if t is not None),
            value_size=value_size,
            **options,
        )
        if lacks is not None:
            raise NotImplementedError(f"kernel {self.name!r} does not support {lacks}")
        return self.function(q, k, v, mask=mask, causal=causal, scale=scale, **options)

    def __reduce__(self) -> tuple[Callable[[str], "Kernel"], tuple[str]]:
        if KERNELS.get(self.name) is not self:
            raise PicklingError(f"kernel {self.name!r} is not in KERNELS, and a kernel is pickled by name: register it")
        return kernel_named, (self.name,)

    def __deepcopy__(self, memo: object) -> Self:
        return self


NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")  # it is part of case ids, waivers and pytest's -k

KERNELS: dict[str, Kernel] = {}
MODULES: dict[str, type[nn.Module]] = {}


def kernel_named(name: str) -> Kernel:
    """Return the kernel that is registered under a name; ValueError if none is."""
    if name not in KERNELS:
        raise ValueError(f"no kernel is named {name!r}; there are {', '.join(KERNELS)}")
    return KERNELS[name]


def check_name(name: str) -> None:
    """Raise ValueError unless a kernel or a module can have this name."""
    if not NAME.fullmatch(name):
        shown = name if len(name) <= 80 else f"{name[:80]}..."
        raise ValueError(
            f"a name is a letter or _, then letters, digits or _, 64 at most, all ASCII; saw {shown!a}: choose another"
        )


def register(name: str, capabilities: Capabilities = Capabilities()) -> Callable[[AttentionFunction], Kernel]:
    """Register the decorated function as kernel ``name``, and return the ``Kernel`` in its place.

    Raises:
        ValueError: the name is taken, or malformed (``check_name``).

    """
    check_name(name)

    def add(function: AttentionFunction) -> Kernel:
        if name in KERNELS:
            raise ValueError(f"a kernel named {name!r} is registered already")
        KERNELS[name] = Kernel(name, function, capabilities)
        return KERNELS[name]

    return add


def register_module(name: str) -> Callable[[type[Module]], type[Module]]:
    """Register the decorated multi-head module; it is built as ``cls(d_model, n_heads, n_kv_heads=...)``.

    Raises:
        ValueError: the name is taken, or malformed (``check_name``).

    """
    check_name(name)

    def add(cls: type[Module]) -> type[Module]:
        if name in MODULES:
            raise ValueError(f"a module named {name!r} is registered already")
        MODULES[name] = cls
        return cls

    return add
