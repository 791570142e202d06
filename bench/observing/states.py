"""What a call leaves changed for whoever calls it: random generators, and torch's switches.

It is a short list of what harms callers. A twin has all of it for itself, so nothing here is about keeping sides apart.
"""

import pickle
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

_State = tuple[Callable[[], Any], Callable[[Any], object] | None]


@contextmanager
def watching() -> Iterator[list[str]]:
    """Watch calls; when they are done, the list names what they left changed, which is turned back where torch can."""
    left: list[str] = []
    states = _switches() | _generators()
    before = {name: read() for name, (read, _) in states.items()}
    _draw()  # so that a generator that is always seeded alike shows
    moved = before | {name: read() for name, (read, _) in _generators().items()}
    try:
        yield left
    finally:
        for name, (read, turn) in states.items():
            now = read()
            if now != moved[name]:
                left.append(name)
            if now != before[name] and turn is not None:
                turn(before[name])


@cache
def _switches() -> dict[str, _State]:
    """Return how each switch is read, and how it is turned back; None where torch has no way."""
    import torch  # noqa: PLC0415  # the engine runs without it

    sdpa = torch.backends.cuda
    return {
        "the number of threads": (torch.get_num_threads, torch.set_num_threads),
        "the gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
        "the inference mode": (torch.is_inference_mode_enabled, None),
        "autocast": (lambda: torch.is_autocast_enabled("cpu"), lambda on: torch.set_autocast_enabled("cpu", on)),
        "CUDA's autocast": (
            lambda: torch.is_autocast_enabled("cuda"),
            lambda on: torch.set_autocast_enabled("cuda", on),
        ),
        "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "the default device": (
            torch.get_default_device,
            lambda device: torch.set_default_device(None if device.type == "cpu" else device),
        ),
        "the precision of float32 products": (_precision, _set_precision),
        "deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
        "SDPA's flash backend": (sdpa.flash_sdp_enabled, sdpa.enable_flash_sdp),
        "SDPA's math backend": (sdpa.math_sdp_enabled, sdpa.enable_math_sdp),
        "SDPA's efficient backend": (sdpa.mem_efficient_sdp_enabled, sdpa.enable_mem_efficient_sdp),
    }


def _generators() -> dict[str, _State]:
    """Return how each random generator that is loaded is read, as a value that can be compared, and set back."""
    import torch  # noqa: PLC0415

    def of_torch(read: Callable[[], Any], turn: Callable[[Any], object]) -> _State:
        # Eight bytes at a time, which is quicker.
        return lambda: read().view(torch.int64).tolist(), lambda s: turn(torch.tensor(s).view(torch.uint8))

    states: dict[str, _State] = {
        "torch's random generator": of_torch(torch.get_rng_state, torch.set_rng_state),
        "Python's random generator": (random.getstate, random.setstate),
    }
    if torch.cuda.is_initialized():
        states["CUDA's random generator"] = of_torch(torch.cuda.get_rng_state, torch.cuda.set_rng_state)
    if (numpy := sys.modules.get("numpy.random")) is not None:
        bits = numpy.get_bit_generator()

        def turn(state: bytes) -> None:
            numpy.set_bit_generator(bits)
            numpy.set_state(pickle.loads(state))  # noqa: S301  # our own

        states["NumPy's random generator"] = (lambda: pickle.dumps(numpy.get_state(legacy=False)), turn)
    return states


def _backends() -> list[Any]:
    import torch  # noqa: PLC0415

    backends: Any = torch.backends
    return [backends.cuda.matmul, getattr(backends.mkldnn, "matmul", None)]  # an older torch has only the first


def _precision() -> tuple[str | None, ...]:
    """Read the switch of all backends, None where it does not speak for them all, and each backend's own."""
    import torch  # noqa: PLC0415

    of_all = None
    with suppress(RuntimeError):  # torch refuses to read it where the backends differ
        of_all = torch.get_float32_matmul_precision()
    return of_all, *(getattr(backend, "fp32_precision", None) for backend in _backends())


def _set_precision(state: tuple[str | None, ...]) -> None:
    import torch  # noqa: PLC0415

    of_all, *own = state
    if of_all is not None:
        torch.set_float32_matmul_precision(of_all)
    for backend, precision in zip(_backends(), own, strict=True):
        if precision is not None:
            backend.fp32_precision = precision


def _draw() -> None:
    import torch  # noqa: PLC0415

    torch.rand(())
    random.random()
    if (numpy := sys.modules.get("numpy.random")) is not None:
        numpy.random()
