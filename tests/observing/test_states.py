"""What a call leaves changed is named and turned back, however the caller had set it."""

import gc
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from bench.observing import states

generators: Any = np.random  # the generators of the module, which a call may draw from
matmul: Any = torch.backends.cuda.matmul
on_cpu: Any = torch.backends.mkldnn
sdpa = torch.backends.cuda
PRECISION, NUMPY = "the precision of float32 products", "NumPy's random generator"
IN_BF16 = "allow_bf16_reduced_precision_reduction"
CHANGES: dict[str, tuple[str, Callable[[], object]]] = {
    # torch.get_float32_matmul_precision raises from here on
    "precision of one backend": (PRECISION, lambda: setattr(matmul, "fp32_precision", "tf32")),
    "precision on the CPU": (PRECISION, lambda: setattr(on_cpu.matmul, "fp32_precision", "bf16")),
    "precision of all": (PRECISION, lambda: torch.set_float32_matmul_precision("medium")),
    "another bit generator": (NUMPY, lambda: generators.set_bit_generator(np.random.PCG64(3))),
    "draws from NumPy": (NUMPY, generators.random),
    "seeds NumPy": (NUMPY, lambda: generators.seed(3)),
    "draws in Python": ("Python's random generator", random.random),
    "seeds torch": ("torch's random generator", lambda: torch.manual_seed(0)),
    "sums in bf16": ("sums in half precision", lambda: setattr(matmul, IN_BF16, not getattr(matmul, IN_BF16))),
    "without flash": ("SDPA's flash backend", lambda: sdpa.enable_flash_sdp(not sdpa.flash_sdp_enabled())),
    "without cuDNN": ("SDPA's cuDNN backend", lambda: sdpa.enable_cudnn_sdp(not sdpa.cudnn_sdp_enabled())),
    "flushes": ("the flushing of denormal numbers", lambda: torch.set_flush_denormal(sys.float_info.min / 2 != 0.0)),
    "threads": ("the number of threads", lambda: torch.set_num_threads(torch.get_num_threads() + 2)),
    "gradients": ("the gradient mode", lambda: torch.set_grad_enabled(not torch.is_grad_enabled())),
    "autograd's threads": ("autograd's threads", lambda: torch.autograd.set_multithreading_enabled(mode=False)),
    "garbage": ("garbage collection", gc.disable),
    "autocast": ("autocast", lambda: torch.set_autocast_enabled("cpu", True)),
    "double": ("the default dtype", lambda: torch.set_default_dtype(torch.float64)),
}
HAD = ("precision of one backend", "precision on the CPU", "precision of all", "another bit generator")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    bits = generators.get_bit_generator()
    yield
    generators.set_bit_generator(bits)
    torch.set_float32_matmul_precision("highest")
    matmul.fp32_precision = on_cpu.matmul.fp32_precision = "none"


def _read() -> dict[str, Any]:
    """Read all states; that each shows its changes, the first test says.

    The precision of all backends is left out: torch cannot read it, nor turn it back, where the backends differ.
    """
    found = {name: state.key(state.read()) for name, state in (states._switches() | states._generators()).items()}
    _, by_backend = found.pop(PRECISION)
    return found | {PRECISION: by_backend}


@pytest.mark.parametrize("how", CHANGES)
def test_what_a_call_changes_is_named_and_turned_back(how: str) -> None:
    name, change = CHANGES[how]
    before = _read()
    with states.watching() as left:
        change()
    assert left == [name]
    assert _read() == before
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("had", HAD)
def test_it_is_named_whatever_the_caller_had_set(had: str) -> None:
    CHANGES[had][1]()
    before = _read()
    with states.watching() as left:
        pass
    assert left == []
    for how, (name, change) in CHANGES.items():
        if had not in (how, "precision of all"):  # which sets what the others set
            with states.watching() as left:
                change()
            assert left == [name], how
            assert _read() == before, how


def test_code_that_disables_garbage_collection_is_named_though_it_was_disabled() -> None:
    gc.disable()
    try:
        with states.watching() as left:
            gc.disable()
        assert left == ["garbage collection"]
        with states.watching() as left:
            pass
        assert left == []
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_is_not_turned_back_stays_and_nothing_else_changes() -> None:
    before = _read()
    with states.watching(turn_back=False) as left:
        torch.set_num_threads(torch.get_num_threads() + 2)
    assert left == ["the number of threads"]
    assert torch.get_num_threads() == before["the number of threads"] + 2
    torch.set_num_threads(before["the number of threads"])
    assert _read() == before
