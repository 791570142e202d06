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
    from attention.registry import Obstacle

from ..plain.errors import CannotDo
from .cases import DTYPES
from .signatures import ACCEPTED, FLASH, INTERFACE, OURS, FlashLayout, InterfaceLayout, Undeclared, takes, wrapper

Token = tuple[str, torch.dtype, int]  # device, dtype and head size
HEAD_SIZES = (64, 128, 32)  # of the tokens that are tried; every known kernel takes the first


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
        signature = inspect.signature(_called(function))
    except (TypeError, ValueError) as error:
        raise CannotDo(
            f"--kernel={name}: its signature cannot be read ({error}): {_way(name, function, None)}"
        ) from error
    if isinstance(function, type):
        way = _way(name, function, signature)
        raise CannotDo(f"--kernel={name}: it is a class, of which an instance may be a kernel: {way}")
    if takes(signature, 3, OURS, named=OURS):
        claims: Any = {name: name in signature.parameters for name in OPTIONS}
        return Kernel(attribute, function, Capabilities(**claims))  # what else it refuses, its cases show
    if takes(signature, 3, FLASH, named=FLASH):
        flash = Undeclared(FlashLayout(function))
        _, obstacle = _tried(name, flash, devices)
        window, softcap = "window_size" in signature.parameters, "softcap" in signature.parameters
        claims = {"masks": frozenset(), "window": window, "softcap": softcap}
        return Kernel(attribute, flash, Capabilities(**claims, obstacle=obstacle))
    if not takes(signature, 4, INTERFACE, named=INTERFACE[:2]):
        raise CannotDo(f"--kernel={name}: its signature is {attribute}{signature}: {_way(name, function, signature)}")
    token, obstacle = _tried(name, Undeclared(InterfaceLayout(function)), devices)
    found = InterfaceLayout.found_by_trying(function, *token)
    causal = found.uses_causal or bool(found.masks)
    claims = {"masks": found.masks, "causal": causal, "softcap": "softcap" in signature.parameters}
    return Kernel(attribute, Undeclared(found), Capabilities(**claims, obstacle=obstacle))


def _tried(name: str, kernel: Undeclared, devices: Sequence[str]) -> "tuple[Token, Obstacle | None]":
    """Try single tokens in each dtype on each device that is here, and what is served with a backward pass too.

    Returns the first token that is served, and the obstacle of the kernel's capabilities, in the kernel's own words;
    None if it refused nothing.

    Raises:
        CannotDo: it serves none.

    """
    served: list[Token] = []
    refused: dict[tuple[str, torch.dtype, bool], str] = {}  # by device, dtype, and whether only a backward pass is
    for device, dtype in product(devices, DTYPES.values()):
        tokens = [(device, dtype, size) for size in HEAD_SIZES]
        token = next((token for token in tokens if kernel.words(*token) is None), None)
        if token is not None:
            served.append(token)
        words = kernel.words(*(token or tokens[0]), backward=token is not None)
        if words is not None:
            what = f"dtype {dtype}" if token is None else f"a backward pass in {dtype}"
            refused[device, dtype, token is not None] = f"{what} on {device} ({words})"
    if not served:
        refusal = kernel.refusal(devices[-1], [*DTYPES.values()][-1], HEAD_SIZES[0])
        raise CannotDo(f"--kernel={name}: no case can run here, since {refusal}: run where it is supported")

    def lacks(*, device: str, dtype: torch.dtype, mask: str | None, backward: bool) -> str | None:
        del mask  # it was not tried
        return refused.get((device, dtype, False)) or (refused.get((device, dtype, True)) if backward else None)

    return served[0], lacks if refused else None


def _called(function: Any) -> Any:
    """Return what shows the signature: of a class, that of its instances; of a module, its ``forward``."""
    of_class = isinstance(function, type)
    if isinstance(function, torch.nn.Module) or (of_class and issubclass(function, torch.nn.Module)):
        return function.forward
    return function.__call__ if of_class else function


def _way(name: str, function: Any, signature: inspect.Signature | None) -> str:
    """Say how to wrap what has an unknown signature."""
    module, _, attribute = name.partition(":")
    owner, _, own = attribute.rpartition(".")
    top = module.partition(".")[0]
    parameters = None if signature is None else dict(signature.parameters)
    unbound = parameters is not None and parameters.pop("self", None) is not None
    made = attribute if isinstance(function, type) else owner if unbound else ""
    written = wrapper(module, attribute, parameters, made)
    return f"wrap it as {ACCEPTED}, in a file wrapped.py say, for --kernel=wrapped:{own} --source={top}:\n\n{written}"
