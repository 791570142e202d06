"""Watches what both sides share in one process: torch's switches, and torch's own functions and classes.

Both are read before and after a side is imported or called, outside of what is timed.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

from .switches import changed_switches, read_switches, restore_switches

Functions = Mapping[str, Mapping[str, Any]]  # by owner and name

# What kernels call, and a call could therefore replace. After an import, every module of torch is compared.
_CALLED = ("torch", "torch.nn.functional", "torch._C._nn", "torch.autograd", "torch.linalg", "torch.special")
_CLASSES = (torch.Tensor, nn.Module, torch.autograd.Function, torch.autograd.function.FunctionCtx)


def called_functions() -> Functions:
    """Read the functions of torch that kernels call, by owner and name: quick enough for every case."""
    return _named([module for name in _CALLED if (module := sys.modules.get(name)) is not None])


def all_functions() -> Functions:
    """Read every function and class of torch that is loaded, by module or class and name."""
    return _named([m for name, m in list(sys.modules.items()) if name.partition(".")[0] == "torch" and _is_code(m)])


def replaced_functions(before: Functions) -> tuple[str, ...]:
    """Name the functions and classes of torch that code outside of torch has replaced."""
    owners = {_name(class_): vars(class_) for class_ in _CLASSES}
    found = []
    for owner, names in before.items():
        now: Mapping[str, Any] = owners.get(owner) or vars(sys.modules.get(owner, object))
        changed = [name for name, old in names.items() if now.get(name) is not old and callable(old)]
        if owner in owners:  # a method that hides an inherited one
            changed += [name for name, new in now.items() if name not in names and callable(new)]
        found += [f"{owner}.{name}" for name in changed if not _is_torch_s(now.get(name))]
    return tuple(sorted(found))


@contextmanager
def watching(read: Callable[[], Functions] = called_functions, *, put_back: bool = True) -> Iterator[list[str]]:
    """Watch the code inside: afterwards, the list that is given names what it changed, restored if that is wanted."""
    switches, functions = read_switches(), read()
    found: list[str] = []
    try:
        yield found
    finally:
        found += replaced_functions(functions)
        found += map(str, changed_switches(switches))
        if found and put_back:
            restore_switches(switches)
            _restore_functions(functions)


def _restore_functions(before: Functions) -> None:
    owners: dict[str, Any] = {_name(class_): class_ for class_ in _CLASSES}
    for found in replaced_functions(before):
        owner, _, name = found.rpartition(".")
        target = owners.get(owner) or sys.modules[owner]
        if name in before[owner]:
            setattr(target, name, before[owner][name])
        else:
            delattr(target, name)


def _named(modules: list[ModuleType]) -> Functions:
    named = {module.__name__: dict(vars(module)) for module in modules}
    return named | {_name(class_): dict(vars(class_)) for class_ in _CLASSES}


def _name(class_: type) -> str:
    return f"{class_.__module__}.{class_.__qualname__}"


def _is_code(module: Any) -> bool:
    return isinstance(module, ModuleType) and not module.__name__.startswith(("torch.ops", "torch.classes"))


def _is_torch_s(value: Any) -> bool:
    """Whether torch itself made the replacement, as it does when it loads a part of itself late."""
    home = getattr(value, "__globals__", {}).get("__name__") or getattr(value, "__module__", None) or ""
    return str(home).partition(".")[0] in ("torch", "bench") or isinstance(value, ModuleType)
