"""The small interface to a CUDA device that timing needs; a fake device can stand in for it."""

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import torch

FLUSH_BYTES = 256 * 2**20  # where the size of the L2 cache is not known
GRAPH_WARMUPS = 3  # calls before one is captured, on a stream of their own, as PyTorch's notes on CUDA ask for
L2_SIZES = 2  # overwriting it evicts the inputs


class Event(Protocol):
    """A mark in the device's queue."""

    def record(self) -> None: ...

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds from this mark to another; both must have been passed."""


class Device(Protocol):
    """A device that works on a queue."""

    def synchronize(self) -> None:
        """Wait until the queue is empty."""

    def event(self) -> Event:
        """Make a mark that can be put into the queue."""

    def flush(self) -> None:
        """Queue the overwriting of the L2 cache."""

    def clock_share(self) -> float | None:
        """The SM clock now, as a share of its default; None where nothing tells."""


class Cuda:
    """The current CUDA device. The buffer that is overwritten is made once and kept."""

    def __init__(self) -> None:
        self._buffer = torch.empty(flush_bytes(), dtype=torch.int8, device="cuda")
        self._clock_share = sm_clock_share()

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def event(self) -> Event:
        return torch.cuda.Event(enable_timing=True)

    def flush(self) -> None:
        self._buffer.zero_()

    def clock_share(self) -> float | None:
        return self._clock_share()


def graphed(call: Callable[[], object]) -> Callable[[], None]:
    """Capture a call as a CUDA graph; returns what replays it, on the same tensors, with one launch for all its work.

    Raises:
        RuntimeError: the call waits for the device, or does what cannot be captured otherwise.

    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(GRAPH_WARMUPS):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def flush_bytes() -> int:
    """How much to overwrite so that the L2 cache of the device holds nothing else."""
    l2_bytes: int = getattr(torch.cuda.get_device_properties(), "L2_cache_size", 0)
    return L2_SIZES * l2_bytes or FLUSH_BYTES


def sm_clock_share() -> Callable[[], float | None]:
    """Return a function that reads the SM clock as a share of its default; None without nvidia-ml-py or its driver.

    The default is that of applications, or the highest where the driver knows no such thing.
    """
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return lambda: None
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")
        nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
        try:
            default_mhz = nvml.nvmlDeviceGetDefaultApplicationsClock(handle, nvml.NVML_CLOCK_SM)
        except nvml.NVMLError:
            default_mhz = nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)
    except nvml.NVMLError:  # no permission, or a slice of a device, which has no clock of its own
        return lambda: None
    return lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) / default_mhz)
