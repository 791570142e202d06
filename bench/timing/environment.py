"""What torch has here: devices, memory, and the environment that a report describes."""

from pathlib import Path

import torch

from ..plain.errors import CannotDo
from .machine import describe_machine, steady_allocator


def present_devices() -> tuple[str, ...]:
    """The device types that torch can use here."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def check_device(device: str) -> None:
    """Refuse a device that was asked for and is not here.

    Raises:
        CannotDo: torch cannot use it.

    """
    if device not in (present := present_devices()):
        raise CannotDo(f"--device={device}: torch sees only {', '.join(present)} here")


def hold_still(threads: int) -> dict[str, str | int]:
    """Fix what this process measures with, its threads and its allocator, and describe the environment."""
    torch.set_num_threads(threads)
    return describe(steady_allocator())


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
    described = describe_machine(allocator) | {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        described["gpu"] = torch.cuda.get_device_name()
        described["cuda"] = torch.version.cuda or "unknown"
    return described


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no control group here, or "max": no limit
        return None
