"""Forced backends: the one that was named runs, or the request is refused."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from attention import KERNELS
from bench.checking.fingerprint import fingerprint

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.mark.parametrize("name", ["flash", "math"])
@pytest.mark.parametrize("causal", [False, True])
def test_backend_that_was_named_is_the_one_that_runs(name: str, causal: bool, make: Make) -> None:
    q, k, v = make()
    assert fingerprint(lambda: KERNELS[f"sdpa_{name}"](q, k, v, causal=causal)).backend == name


@pytest.mark.filterwarnings("ignore:.*kernel not used because", "ignore:.*fused kernels require")
@pytest.mark.parametrize("loud", [False, True], ids=["warnings", "warnings_as_errors"])
def test_backend_that_torch_refuses_is_named_and_nothing_runs_instead(loud: bool, make: Make, recwarn: Any) -> None:
    q, k, v = make()
    bias = torch.zeros(33, 49, requires_grad=True)
    message = (
        r"^PyTorch's flash backend refuses q \(2, 4, 33, 16\), k \(2, 4, 49, 16\), v \(2, 4, 49, 16\), a mask, "
        r"torch.float32, cpu; its warnings say why$"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error" if loud else "ignore")
        with pytest.raises(NotImplementedError, match=message):
            KERNELS["sdpa_flash"](q, k, v, mask=bias)


@pytest.mark.parametrize("name", ["efficient", "cudnn"])
def test_backend_of_another_device_is_refused(name: str, make: Make) -> None:
    q, k, v = (t.half() for t in make())
    with pytest.raises(NotImplementedError, match=rf"^kernel 'sdpa_{name}' does not support device cpu$"):
        KERNELS[f"sdpa_{name}"](q, k, v)


def test_error_that_is_no_refusal_is_left_as_it_is(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fail)
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        KERNELS["sdpa_math"](*make())


ASKED: dict[str, Any] = {"causal": False, "grouped": False, "device": "cuda"}


@pytest.mark.parametrize(
    ("name", "generation", "dtype", "mask", "lacks"),
    [
        ("flash", (8, 0), torch.float16, None, None),
        ("flash", (7, 5), torch.float16, None, "GPUs before sm80; this one is sm75"),
        ("flash", (9, 0), torch.float32, None, "dtype torch.float32 on cuda"),
        ("flash", (9, 0), torch.bfloat16, "bool", "a bool mask on cuda"),
        ("cudnn", (9, 0), torch.bfloat16, "bool", None),
        ("cudnn", (7, 5), torch.bfloat16, None, "GPUs before sm80; this one is sm75"),
        ("cudnn", (9, 0), torch.float32, None, "dtype torch.float32"),
        ("efficient", (7, 5), torch.float32, "float", None),
        ("efficient", (7, 5), torch.float64, None, "dtype torch.float64"),
        ("math", (7, 5), torch.float64, "bool", None),
    ],
)
def test_what_a_backend_can_do_depends_on_the_gpu(
    *,
    name: str,
    generation: tuple[int, int],
    dtype: torch.dtype,
    mask: str | None,
    lacks: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: generation)
    assert KERNELS[f"sdpa_{name}"].capabilities.lacks(mask=mask, dtype=dtype, **ASKED) == lacks
