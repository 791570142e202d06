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

RECOMPILE_LIMIT = 256  # shapes in one process; torch's own limit of 8 would end a run of the matrix
VECTOR_BITS = {"AVX2": 256, "AVX512": 512}  # width of a vector by PyTorch's name for the instruction set of an x86 CPU


def obstacle(*, device: str, **_: object) -> str | None:
    """Say why this machine cannot compile for a device type; None if it can."""
    if torch.compiler.is_compiling():
        return None  # the caller is being compiled, and this kernel with it
    if torch._C._are_functorch_transforms_active():  # noqa: SLF001  # there is no public question
        return "torch.func's transforms: compile the transformed function instead"
    missing = _missing(device)
    return None if missing is None else f"device {device} here: {missing}"


def is_traced(q: Tensor) -> bool:
    """Whether the call is traced, or its tensors hold no data: compiled code would crash the process on them."""
    return q.device.type == "meta" or torch.compiler.is_compiling() or is_fake(q)


@cache
def _missing(device: str) -> str | None:
    if sys.version_info >= (3, 14):  # on older Python, every supported torch compiles
        from torch._dynamo import is_dynamo_supported  # noqa: PLC0415  # the import takes a second

        if not is_dynamo_supported():
            return f"this torch does not compile on Python {sys.version_info.major}.{sys.version_info.minor}"
    if device == "cpu":
        wanted = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")  # as torch
        if shutil.which(wanted) is None:
            return f"torch.compile needs a C++ compiler, and {wanted} is not installed: install it, or set CXX"
    elif importlib.util.find_spec("triton") is None:
        return "torch.compile needs Triton, which is not installed"
    return None


def vector_bits() -> int | None:
    """Return the width of the vectors that PyTorch uses on this CPU; None where it has no AVX2, or is no x86 CPU.

    ``ATEN_CPU_CAPABILITY`` can choose a smaller width than the CPU has.
    """
    return VECTOR_BITS.get(torch.backends.cpu.get_cpu_capability())


@cache
def compile_whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function anew for each shape, as one graph.

    It never falls back to eager code: a graph break, or more shapes than the limit, raises torch's own error.

    PyTorch's cache on disk does not record the instruction set that code was generated for, so that AVX-512 code is
    compiled for AVX2, and its results are wrong (torch 2.13). The width of a vector is an option, and thereby recorded.
    """
    with warnings.catch_warnings():  # torch's compiler imports what is deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._inductor.compile_fx")
    # Older versions of torch have one limit for all functions, and raise when it is reached.
    own_limit = "recompile_limit" in inspect.signature(torch.compile).parameters
    limit = {"recompile_limit": RECOMPILE_LIMIT} if own_limit else {}
    options = {"cpp.simdlen": vector_bits()}
    return torch.compile(function, fullgraph=True, dynamic=False, options=options, **limit)  # type: ignore[call-overload, no-any-return]  # the arguments depend on torch's version
