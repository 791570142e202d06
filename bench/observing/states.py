"""What a call leaves changed for whoever calls it: random generators, the garbage collector and torch's switches.

It is a short list of what harms callers. A twin has all of it for itself, so nothing here is about keeping sides apart.
"""

import gc
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import string_at
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

Read = Callable[[], Any]
Turn = Callable[[Any], object]


@dataclass(frozen=True)
class _State:
    """How a state is read, what of it is compared, and how it is turned back; None where torch has no way."""

    read: Read
    turn: Turn | None
    key: Callable[[Any], Any] = lambda state: state


@contextmanager
def watching(*, turn_back: bool = True) -> Iterator[list[str]]:
    """Watch code; when it is done, the list names what it left changed, which is turned back where torch can.

    Without ``turn_back``, what it left changed stays so.
    """
    left: list[str] = []
    states = _switches() | _generators()
    before = {name: state.read() for name, state in states.items()}
    _stir()
    stirred = {name: state.read() for name, state in states.items()}
    try:
        yield left
    finally:
        for name, state in states.items():
            now = state.key(state.read())
            if changed := now != state.key(stirred[name]):
                left.append(name)
            if now != state.key(before[name]) and state.turn is not None and (turn_back or not changed):
                state.turn(before[name])


@cache
def _switches() -> dict[str, _State]:
    """Return the switches of torch, and of garbage collection, that a caller sets."""
    sdpa, products = torch.backends.cuda, torch.backends.cuda.matmul
    in_half = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
    switches: dict[str, tuple[Read, Turn | None]] = {
        "the number of threads": (torch.get_num_threads, torch.set_num_threads),
        "the gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
        "autograd's threads": (
            torch._C._is_multithreading_enabled,  # noqa: SLF001  # it has no public name
            torch.autograd.set_multithreading_enabled,
        ),
        "the inference mode": (torch.is_inference_mode_enabled, None),
        "autocast": _of_device(torch.is_autocast_enabled, torch.set_autocast_enabled, "cpu"),
        "CUDA's autocast": _of_device(torch.is_autocast_enabled, torch.set_autocast_enabled, "cuda"),
        "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "the default device": (
            torch.get_default_device,
            lambda device: torch.set_default_device(None if device.type == "cpu" else device),
        ),
        "the precision of float32 products": _precision(),
        "deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
        "SDPA's flash backend": (sdpa.flash_sdp_enabled, sdpa.enable_flash_sdp),
        "SDPA's math backend": (sdpa.math_sdp_enabled, sdpa.enable_math_sdp),
        "SDPA's efficient backend": (sdpa.mem_efficient_sdp_enabled, sdpa.enable_mem_efficient_sdp),
        "SDPA's cuDNN backend": (sdpa.cudnn_sdp_enabled, sdpa.enable_cudnn_sdp),
        "sums in half precision": _attributes(*((products, name) for name in in_half)),
        "garbage collection": (gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
        "the flushing of denormal numbers": (lambda: sys.float_info.min / 2 == 0.0, torch.set_flush_denormal),
    }
    return {name: _State(read, turn) for name, (read, turn) in switches.items()}


def _of_device(read: Callable[[str], Any], turn: Callable[[str, Any], object], device: str) -> tuple[Read, Turn]:
    return partial(read, device), partial(turn, device)


def _attributes(*places: tuple[Any, str]) -> tuple[Read, Turn]:
    """Return how to read and to set some attributes of objects together, without those that an older torch lacks."""
    known = [(owner, name) for owner, name in places if hasattr(owner, name)]

    def turn(values: tuple[Any, ...]) -> None:
        for (owner, name), value in zip(known, values, strict=True):
            setattr(owner, name, value)

    return lambda: tuple(getattr(owner, name) for owner, name in known), turn


def _precision() -> tuple[Read, Turn]:
    """Return how to read and to set the switch of all backends, and each backend's own."""
    backends: Any = torch.backends
    products = [backends.cuda.matmul, getattr(backends.mkldnn, "matmul", None)]  # an older torch has only the first
    read_own, turn_own = _attributes(*((backend, "fp32_precision") for backend in products))

    def read() -> tuple[str | None, Any]:
        of_all = None
        with suppress(RuntimeError):  # torch refuses to read it where the backends differ
            of_all = torch.get_float32_matmul_precision()
        return of_all, read_own()

    def turn(state: tuple[str | None, Any]) -> None:
        of_all, own = state
        if of_all is not None:
            torch.set_float32_matmul_precision(of_all)
        turn_own(own)

    return read, turn


def _generators() -> dict[str, _State]:
    """Return the random generators that are loaded."""

    def written(state: torch.Tensor) -> bytes:
        return string_at(state.data_ptr(), state.nbytes)  # without NumPy, which torch may lack

    states = {
        "torch's random generator": _State(torch.get_rng_state, torch.set_rng_state, written),
        "Python's random generator": _State(random.getstate, random.setstate),
    }
    if torch.cuda.is_initialized():
        states["CUDA's random generator"] = _State(torch.cuda.get_rng_state, torch.cuda.set_rng_state, written)
    if (numpy := sys.modules.get("numpy.random")) is not None:
        bits = numpy.get_bit_generator() if hasattr(numpy, "get_bit_generator") else None  # none before NumPy 1.24

        def turn(state: Any) -> None:
            if bits is not None:
                numpy.set_bit_generator(bits)
            numpy.set_state(state)

        states["NumPy's random generator"] = _State(partial(numpy.get_state, legacy=False), turn, _plain)
    return states


def _plain(state: Any) -> Any:
    """Return a state of NumPy's with its arrays as bytes, so that it can be compared."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tobytes() if hasattr(state, "tobytes") else state


def _stir() -> None:
    """Make it show that code always seeds a generator alike, or disables garbage collection that is disabled."""
    gc.enable()
    torch.rand(())
    random.random()
    if (numpy := sys.modules.get("numpy.random")) is not None:
        numpy.random()
