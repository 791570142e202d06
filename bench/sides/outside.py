"""Kernels from outside the repository: import what ``--kernel`` names, and make it a ``Kernel`` by its signature."""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from attention import Kernel

from ..cases import DTYPES
from ..plain.errors import CannotDo
from .signatures import ACCEPTED, FLASH, INTERFACE, OURS, FlashLayout, InterfaceLayout, Undeclared, takes, wrapper

PROBE_HEAD_SIZE = 64  # every known kernel takes it


def load(names: Iterable[str], devices: Sequence[str]) -> "Mapping[str, Kernel]":
    """Import ``package.module:function`` names, as kernels by function name.

    Raises:
        CannotDo: one cannot be imported, has an unknown signature or another's name, or runs on none of the devices.

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
    except (Exception, SystemExit) as error:  # a module that calls sys.exit must not end the run
        raise CannotDo(
            f"--kernel={name}: it cannot be imported ({type(error).__name__}: {error}): "
            "give an importable module and a function in it, as package.module:function"
        ) from error
    if not callable(function):
        raise CannotDo(f"--kernel={name}: {attribute} is not callable: name a kernel function")
    return function, attribute.rpartition(".")[2]


def _adapt(name: str, attribute: str, function: Callable[..., Any], devices: Sequence[str]) -> "Kernel":
    from attention.registry import OPTIONS, Capabilities, Kernel, check_name  # noqa: PLC0415  # a side in its own process has no need of it

    if isinstance(function, Kernel):
        return function
    try:
        check_name(attribute)
    except ValueError as error:
        raise CannotDo(f"--kernel={name}: {error}, or wrap it in a function that has one") from error
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise CannotDo(f"--kernel={name}: its signature cannot be read ({error}): {_way(name, None)}") from error
    if takes(signature, 3, OURS, named=OURS):
        claims: Any = {name: name in signature.parameters for name in OPTIONS}
        return Kernel(attribute, function, Capabilities(**claims))
    if takes(signature, 3, FLASH, named=FLASH):
        flash = Undeclared(FlashLayout(function))
        _served(name, flash, devices)
        window, softcap = "window_size" in signature.parameters, "softcap" in signature.parameters
        return Kernel(attribute, flash, Capabilities(masks=frozenset(), window=window, softcap=softcap))
    if not takes(signature, 4, INTERFACE, named=INTERFACE[:2]):
        raise CannotDo(f"--kernel={name}: its signature is {attribute}{signature}: {_way(name, signature)}")
    device, dtype = _served(name, Undeclared(InterfaceLayout(function)), devices)
    found = InterfaceLayout.found_by_trying(function, device, dtype, PROBE_HEAD_SIZE)
    causal = found.heeds_causal or bool(found.masks)
    softcap = "softcap" in signature.parameters
    return Kernel(attribute, Undeclared(found), Capabilities(masks=found.masks, causal=causal, softcap=softcap))


def _served(name: str, kernel: Undeclared, devices: Sequence[str]) -> tuple[str, torch.dtype]:
    """Return a device and a dtype for which the kernel serves a token.

    Raises:
        CannotDo: there is none.

    """
    refusal: str | None = None
    for device, dtype in product(devices, DTYPES.values()):
        refusal = kernel.refusal(device, dtype, PROBE_HEAD_SIZE)
        if refusal is None:
            return device, dtype
    raise CannotDo(f"--kernel={name}: no case can run here, since {refusal}: run where it is supported")


def _way(name: str, signature: inspect.Signature | None) -> str:
    """Say how to wrap a function of an unknown signature."""
    module, _, attribute = name.partition(":")
    own, top = attribute.rpartition(".")[2], module.partition(".")[0]
    written = wrapper(module, attribute, None if signature is None else signature.parameters)
    return f"wrap it as {ACCEPTED}, in a file wrapped.py say, for --kernel=wrapped:{own} --source={top}:\n\n{written}"
