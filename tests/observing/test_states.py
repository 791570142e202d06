"""What a call leaves changed is named and turned back, however the caller had set it."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bench.observing import states

generators: Any = np.random  # the generators of the module, which a call may draw from
matmul: Any = torch.backends.cuda.matmul
on_cpu: Any = torch.backends.mkldnn


def _by_backend() -> None:
    matmul.fp32_precision = "tf32"  # torch.get_float32_matmul_precision raises from here on


def _by_the_backend_of_the_cpu() -> None:
    on_cpu.matmul.fp32_precision = "bf16"


def _for_all() -> None:
    torch.set_float32_matmul_precision("medium")


def _another_bit_generator() -> None:
    generators.set_bit_generator(np.random.PCG64(3))


def _draws_from_numpy() -> None:
    generators.random()


def _seeds_numpy() -> None:
    generators.seed(3)


def _sums_in_bf16() -> None:
    matmul.allow_bf16_reduced_precision_reduction = not matmul.allow_bf16_reduced_precision_reduction


def _without_cudnn() -> None:
    torch.backends.cuda.enable_cudnn_sdp(not torch.backends.cuda.cudnn_sdp_enabled())


def _flushes_denormal_numbers() -> None:
    torch.set_flush_denormal(sys.float_info.min / 2 != 0.0)  # whichever it was not


PRECISION, NUMPY = "the precision of float32 products", "NumPy's random generator"
CHANGES = {
    PRECISION: (_by_backend, _by_the_backend_of_the_cpu, _for_all),
    NUMPY: (_another_bit_generator, _draws_from_numpy, _seeds_numpy),
    "sums in half precision": (_sums_in_bf16,),
    "SDPA's cuDNN backend": (_without_cudnn,),
    "the flushing of denormal numbers": (_flushes_denormal_numbers,),
}
ALL = [pytest.param(name, change, id=change.__name__) for name, changes in CHANGES.items() for change in changes]


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    bits = generators.get_bit_generator()
    yield
    generators.set_bit_generator(bits)
    torch.set_float32_matmul_precision("highest")
    matmul.fp32_precision = on_cpu.matmul.fp32_precision = "none"


def _read() -> tuple[Any, ...]:
    drawn = generators.get_state(legacy=False)
    return (
        matmul.fp32_precision,
        on_cpu.matmul.fp32_precision,
        matmul.allow_bf16_reduced_precision_reduction,
        torch.backends.cuda.cudnn_sdp_enabled(),
        sys.float_info.min / 2,
        type(generators.get_bit_generator()),
        repr(drawn),
    )


@pytest.mark.parametrize(("name", "change"), ALL)
def test_what_a_call_changes_is_named_and_turned_back(name: str, change: Callable[[], None]) -> None:
    before = _read()
    with states.watching() as left:
        change()
    assert left == [name]
    assert _read() == before


@pytest.mark.parametrize("had", [_by_backend, _by_the_backend_of_the_cpu, _for_all, _another_bit_generator])
@pytest.mark.parametrize(("name", "change"), ALL)
def test_it_is_named_whatever_the_caller_had_set(
    had: Callable[[], None], name: str, change: Callable[[], None]
) -> None:
    had()
    before = _read()
    with states.watching() as left:
        pass
    assert left == []
    if had not in (change, _for_all):  # which sets what the others set
        with states.watching() as left:
            change()
        assert left == [name]
    assert _read() == before
