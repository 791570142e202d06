"""The process-wide switches of torch and of Python: what one side turns, the other runs with.

They are found by torch's own naming, a setter beside a getter, so that a new one is watched as soon as torch has it.
Hooks and modes that stay behind count as switches, too: they run at every call of either side.
"""

import functools
import gc
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import overrides
from torch.nn.modules import module as nn_module
from torch.utils import _python_dispatch
from torch.utils._device import DeviceContext

from .view import untagged

_DEVICES = ("cpu", "cuda")
_PRIVATE = "torch._C."  # a setting with a public name too is found by that first
_TORCH_SETS = ("TORCHINDUCTOR_", "TRITON_")  # environment variables that torch sets while it compiles
_NO_SWITCH = frozenset(
    {"conj", "neg", "rng_state", "thread_name", "worker_signal_handlers"}  # of a tensor, a generator, a thread
    | {"dispatch_mode", "tracing_state", "value_trace", "torch_function_state"}  # of what watches a call
    | {"only_lift_cpu_tensors", "meta_in_tls_dispatch_include"}  # of a trace
)
_UNREADABLE = object()
_autograd: Any = torch._C._autograd  # noqa: SLF001  # where the hooks of saved tensors are


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
    return {switch.name: value for switch in _switches() if (value := _read(switch)) is not _UNREADABLE}


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


def _shown(value: Any) -> str:
    return "none" if value is None else untagged(str(value))


def _read(switch: _Switch) -> Any:
    try:
        return switch.read()
    except (RuntimeError, AttributeError, TypeError, AssertionError):  # of a device or library that is missing
        return _UNREADABLE


@functools.cache
def _switches() -> tuple[_Switch, ...]:
    found = [*_pairs(torch, "torch.", "get_", "set_"), *_pairs(torch._C, _PRIVATE, "_get_", "_set_")]  # noqa: SLF001  # torch has no public list
    found += [
        _Switch("torch.set_default_device", _default_device, torch.set_default_device),
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
        _Switch("sys.setprofile", sys.getprofile, sys.setprofile),
        _Switch("sys.settrace", sys.gettrace, sys.settrace),
        _Switch("sys.setswitchinterval", sys.getswitchinterval, sys.setswitchinterval),
        _Switch("torch.nn.modules.module", _module_hooks, _set_module_hooks),
        _Switch("torch.autograd.graph.saved_tensors_hooks", _saved_tensors_hooks, _set_saved_tensors_hooks),
        _Switch("torch.overrides.TorchFunctionMode", _function_modes, _set_function_modes),
        _Switch("torch.utils._python_dispatch.TorchDispatchMode", _dispatch_modes, _set_dispatch_modes),
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
            or name.startswith(("set_autocast", "set_default_device", "set_rng_state"))
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


def _default_device() -> torch.device | None:
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)  # noqa: SLF001  # get_default_device does not tell cpu from none
    return None if context is None else context.device


def _hook_tables() -> dict[str, dict[int, Any]]:
    tables = vars(nn_module).items()
    return {name: table for name, table in tables if name.startswith("_global_") and isinstance(table, dict)}


def _module_hooks() -> dict[str, Any]:
    return {f"{name}[{key}]": hook for name, table in _hook_tables().items() for key, hook in table.items()}


def _set_module_hooks(wanted: Mapping[str, Any]) -> None:
    for name, table in _hook_tables().items():
        for key in [key for key in table if f"{name}[{key}]" not in wanted]:
            del table[key]


def _saved_tensors_hooks() -> Any:
    return _autograd._top_saved_tensors_default_hooks(True)  # noqa: FBT003, SLF001  # no public question, by position


def _set_saved_tensors_hooks(wanted: Any) -> None:
    while _saved_tensors_hooks() not in (None, wanted):
        _autograd._pop_saved_tensors_default_hooks()  # noqa: SLF001  # likewise


def _function_modes() -> tuple[Any, ...]:
    modes = overrides._get_current_function_mode_stack()  # noqa: SLF001  # likewise
    return tuple(mode for mode in modes if not isinstance(mode, DeviceContext))  # which is the default device


def _set_function_modes(wanted: tuple[Any, ...]) -> None:
    _set_modes(_function_modes, overrides._push_mode, overrides._pop_mode, wanted)  # noqa: SLF001  # likewise


def _dispatch_modes() -> tuple[Any, ...]:
    return tuple(_python_dispatch._get_current_dispatch_mode_stack())  # noqa: SLF001  # likewise


def _set_dispatch_modes(wanted: tuple[Any, ...]) -> None:
    _set_modes(_dispatch_modes, _python_dispatch._push_mode, _python_dispatch._pop_mode, wanted)  # noqa: SLF001  # likewise


def _set_modes(
    current: Callable[[], tuple[Any, ...]],
    push: Callable[[Any], object],
    pop: Callable[[], object],
    wanted: tuple[Any, ...],
) -> None:
    while current() != wanted[: len(current())]:
        pop()
    for mode in wanted[len(current()) :]:
        push(mode)
