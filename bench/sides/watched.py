"""What both sides share in one process, and one could change: torch's process-wide switches, and torch's functions.

Both are read before and after a side is imported or called, outside of what is timed. Switches are found by torch's own
naming, a setter beside a getter, so that a new one is watched as soon as torch has it.
"""

import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import nn

from .view import untagged

Functions = Mapping[str, Mapping[str, Any]]  # by owner and name

# What kernels call, and a call could therefore replace. After an import, every module of torch is compared.
_CALLED = ("torch", "torch.nn.functional", "torch._C._nn", "torch.autograd", "torch.linalg", "torch.special")
_CLASSES = (torch.Tensor, nn.Module, torch.autograd.Function, torch.autograd.function.FunctionCtx)
_DEVICES = ("cpu", "cuda")
_PRIVATE = "torch._C."  # a setting with a public name too is found by that first
_TORCH_SETS = ("TORCHINDUCTOR_", "TRITON_")  # environment variables that torch sets while it compiles
_NO_SWITCH = frozenset(
    {"conj", "neg", "rng_state", "thread_name", "worker_signal_handlers"}  # of a tensor, a generator, a thread
    | {"dispatch_mode", "tracing_state", "value_trace", "torch_function_state"}  # of what watches a call
    | {"only_lift_cpu_tensors", "meta_in_tls_dispatch_include"}  # of a trace
)


@dataclass(frozen=True)
class _Switch:
    name: str  # as in code
    read: Callable[[], Any]
    write: Callable[[Any], Any]


@dataclass(frozen=True)
class Change:
    """A switch that is not what it was."""

    name: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.name} {_shown(self.before)} -> {_shown(self.after)}"


def read_switches() -> dict[str, Any]:
    """Read every switch that can be read here."""
    return {switch.name: value for switch in _switches() if (value := _read(switch)) is not None}


def changed_switches(before: Mapping[str, Any]) -> tuple[Change, ...]:
    """List the switches that have changed since they were read."""
    now = read_switches()
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
            found += [Change(f"{name}[{key!r}]", old.get(key), new.get(key)) for key in keys]
        elif old != new:
            found.append(Change(name, old, new))
    return tuple(sorted(found, key=lambda change: change.name.startswith(_PRIVATE)))


def restore_switches(before: Mapping[str, Any]) -> None:
    """Set every switch that has changed back to what was read, so that later cases are measured as asked."""
    for switch in _switches():
        if switch.name in before and _read(switch) != before[switch.name]:
            # torch.backends may have frozen the property; the setting has another name, too.
            with suppress(RuntimeError):
                switch.write(before[switch.name])


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


def _shown(value: Any) -> str:
    return "none" if value is None else untagged(str(value))


def _read(switch: _Switch) -> Any:
    try:
        return switch.read()
    except (RuntimeError, AttributeError, TypeError, AssertionError):  # of a device or library that is missing
        return None


@functools.cache
def _switches() -> tuple[_Switch, ...]:
    found = [*_pairs(torch, "torch.", "get_", "set_"), *_pairs(torch._C, _PRIVATE, "_get_", "_set_")]  # noqa: SLF001  # torch has no public list
    found += [
        _Switch("torch grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
        _Switch("torch.set_warn_always", torch.is_warn_always_enabled, torch.set_warn_always),
        _Switch("torch anomaly mode", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
        _Switch("torch autocast cache", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
        _Switch("torch.set_flush_denormal", _flushes_denormals, torch.set_flush_denormal),
        _Switch(
            "torch.use_deterministic_algorithms(warn_only)",
            torch.is_deterministic_algorithms_warn_only_enabled,
            lambda warn_only: torch.use_deterministic_algorithms(
                torch.are_deterministic_algorithms_enabled(), warn_only=warn_only
            ),
        ),
        _Switch(
            "torch.use_deterministic_algorithms",
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
        ),
    ]
    for device in _DEVICES:
        found += [
            _Switch(
                f"torch autocast on {device}",
                functools.partial(torch.is_autocast_enabled, device),
                functools.partial(torch.set_autocast_enabled, device),
            ),
            _Switch(
                f"torch autocast dtype on {device}",
                functools.partial(torch.get_autocast_dtype, device),
                functools.partial(torch.set_autocast_dtype, device),
            ),
        ]
    found += _of_backends()
    found += [
        _Switch(f"{name}.config", functools.partial(_config, name), functools.partial(_set_config, name))
        for name in ("torch._dynamo", "torch._inductor", "torch._functorch")
    ]
    found += [
        _Switch("os.environ", _environment, _set_environment),
        _Switch("gc.isenabled", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
        _Switch("gc.get_threshold", gc.get_threshold, lambda thresholds: gc.set_threshold(*thresholds)),
    ]
    return tuple(found)


def _pairs(module: Any, prefix: str, getter: str, setter: str) -> list[_Switch]:
    """Find the settings for which a module has both a getter without arguments and a setter."""
    found = []
    for name in sorted(vars(module)):
        setting = name.removeprefix(setter)
        read = getattr(module, getter + setting, None)
        if (
            not name.startswith(setter)
            or read is None
            or f"_{setting}" in _NO_SWITCH
            or name.startswith(("set_autocast", "set_rng_state"))
        ):
            continue
        try:
            value = read()
        except (TypeError, RuntimeError):
            continue
        if isinstance(value, (bool, int, float, str, torch.dtype, torch.device, tuple, type(None))) or "_C" in str(
            type(value)
        ):
            found.append(_Switch(prefix + name.lstrip("_"), read, getattr(module, name)))
    return found


def _of_backends() -> list[_Switch]:
    """Find the properties of torch.backends, and the settings that it turns on and off by functions."""
    found = []
    for name, module in sorted(sys.modules.items()):
        if not name.startswith("torch.backends"):
            continue
        for class_ in type(module).__mro__:
            for attribute, value in vars(class_).items():
                if type(value).__name__ == "ContextProp":
                    read = functools.partial(getattr, module, attribute)
                    found.append(_Switch(f"{name}.{attribute}", read, functools.partial(setattr, module, attribute)))
        for function in sorted(vars(module)):
            setting = function.removeprefix("enable_").removeprefix("set_")
            read_it = getattr(module, f"{setting}_enabled", None) or getattr(module, f"get_{setting}", None)
            if function.startswith(("enable_", "set_")) and callable(read_it):
                found.append(_Switch(f"{name}.{function}", read_it, getattr(module, function)))
    return found


def _config(package: str) -> dict[str, Any]:
    """Read the settings of torch's compiler that differ from their defaults; none if it is not loaded."""
    module = sys.modules.get(f"{package}.config")
    entries = getattr(module, "_config", {})
    read = {}
    for name, entry in entries.items():
        override = getattr(entry, "user_override", None)
        value = override.get() if isinstance(override, ContextVar) else override
        if _is_plain(value) and value != entry.default:  # torch itself writes defaults there
            read[name] = value
    return read


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str))  # a setting without a value is an object of its own


def _set_config(package: str, overrides: Mapping[str, Any]) -> None:
    module: Any = sys.modules[f"{package}.config"]
    entries = module._config  # noqa: SLF001  # its public way back changes all at once
    for name in {*_config(package), *overrides}:
        setattr(module, name, overrides.get(name, entries[name].default))


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith(_TORCH_SETS)}


def _set_environment(values: Mapping[str, str]) -> None:
    for name in set(_environment()) - set(values):
        del os.environ[name]
    os.environ.update(values)


def _flushes_denormals() -> bool:
    return float(torch.tensor([1e-310], dtype=torch.float64).mul_(1.0)) == 0.0
