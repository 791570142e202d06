"""The machine: describes what a measurement depends on, and fixes what can be fixed."""

import ctypes
import os
import platform
from pathlib import Path

import torch

# glibc moves its mmap threshold at run time. So the same kernel may reuse its score buffer, or page-fault it in at
# every call, a factor of two. The parameters are those of malloc.h: threshold, trim, top pad.
_MALLOPT = ((-3, 1 << 30), (-1, 2**31 - 1), (-2, 64 << 20))


def steady_allocator() -> str:
    """Fix glibc's malloc thresholds, before the first large tensor; returns whether that was done, in words."""
    if platform.libc_ver()[0] != "glibc":
        return "as found: not glibc"
    libc = ctypes.CDLL(None)
    done = all(libc.mallopt(parameter, value) == 1 for parameter, value in _MALLOPT)
    return "glibc thresholds fixed" if done else "as found: mallopt refused"


def present_devices() -> tuple[str, ...]:
    """The device types that torch can use here."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def lacks(device: str, dtype: torch.dtype) -> str | None:
    """Say what this machine's device does not support of the dtype; None if nothing is known to be lacking."""
    if device != "cuda" or dtype != torch.bfloat16 or torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"bf16 needs compute capability 8.0, and {torch.cuda.get_device_name()} has {major}.{minor}"


def available_bytes(device: str) -> int:
    """Memory that a case may take on the device: what is free, and for the CPU what the control group leaves."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    import psutil  # noqa: PLC0415  # another interpreter, which never asks, may lack it

    free: int = psutil.virtual_memory().available
    limit, used = (_read_number(Path("/sys/fs/cgroup") / f"memory.{name}") for name in ("max", "current"))
    return free if limit is None or used is None else min(free, limit - used)


def describe(allocator: str) -> dict[str, str | int]:
    """Describe the environment of this process: every value is a plain string or number."""
    described: dict[str, str | int] = {
        "cpu": cpu_model(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "os": platform.platform(),
        "libc": " ".join(platform.libc_ver()).strip() or "unknown",
        "malloc": allocator,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
        described["cuda"] = torch.version.cuda or "unknown"
    return described


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no control group here, or "max": no limit
        return None
