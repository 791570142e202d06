"""Shared by kernels that use ``torch.compile``: how they compile, and why a machine cannot."""

import importlib.util
import inspect
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake

RECOMPILE_LIMIT = 256  # shapes of one process; beyond torch's own 8 a run would end in the middle


def obstacle(*, device: str, **_: object) -> str | None:
    """Say why this machine cannot compile for a device type; None if it can."""
    if torch.compiler.is_compiling():
        return None  # the caller's compiler is at work
    if torch._C._are_functorch_transforms_active():  # noqa: SLF001  # there is no public question
        return "torch.func's transforms: compile the transformed function instead"
    missing = _missing(device)
    return None if missing is None else f"device {device} here: {missing}"


def is_traced(q: Tensor) -> bool:
    """Whether a call is traced or has no data: code that was compiled would end the process on what is not there."""
    return q.device.type == "meta" or torch.compiler.is_compiling() or is_fake(q)


@cache
def _missing(device: str) -> str | None:
    if sys.version_info >= (3, 14):  # every torch that this package accepts compiles on what is older
        from torch._dynamo import is_dynamo_supported  # noqa: PLC0415  # a second, for nothing where it is not asked

        if not is_dynamo_supported():
            return f"this torch does not compile on Python {sys.version_info.major}.{sys.version_info.minor}"
    if device == "cpu":
        wanted = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")  # as torch does
        if shutil.which(wanted) is None:
            return f"torch.compile needs a C++ compiler, and {wanted} is not installed: install it, or set CXX"
    elif importlib.util.find_spec("triton") is None:
        return "torch.compile needs Triton, which is not installed"
    return None


@cache
def compile_whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for each shape it will be called with, whole or not at all.

    Nothing falls back in silence: a graph break, and more shapes than the limit, raise torch's own error.
    """
    with warnings.catch_warnings():  # torch's compiler warns of what it imports itself
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._inductor.compile_fx")
    # An older torch has one limit for every function, and raises when it is reached.
    own_limit = "recompile_limit" in inspect.signature(torch.compile).parameters
    options = {"recompile_limit": RECOMPILE_LIMIT} if own_limit else {}
    return torch.compile(function, fullgraph=True, dynamic=False, **options)  # type: ignore[call-overload, no-any-return]  # the options depend on torch's version
