"""Forced backends: the one that was named runs, or the request is refused."""

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attention import KERNELS, forced, operators
from attention.forced import ON_CPU
from bench.observing.fingerprint import fingerprint

from .conftest import make


@pytest.mark.parametrize("name", ["flash", "math"])
@pytest.mark.parametrize("causal", [False, True])
def test_backend_that_was_named_is_the_one_that_runs(name: str, causal: bool) -> None:
    q, k, v = make()
    assert fingerprint(lambda: KERNELS[f"sdpa_{name}"](q, k, v, causal=causal)).backend == name


@pytest.mark.filterwarnings("ignore:.*kernel not used because", "ignore:.*fused kernels require")
@pytest.mark.parametrize("loud", [False, True], ids=["warnings", "warnings_as_errors"])
def test_backend_that_torch_refuses_is_named_and_nothing_runs_instead(loud: bool, recwarn: Any) -> None:
    q, k, v = make()
    bias = torch.zeros(33, 49, requires_grad=True)
    message = (
        r"^PyTorch's flash backend refuses q \(2, 4, 33, 16\), k \(2, 4, 49, 16\), v \(2, 4, 49, 16\), a mask, "
        r"torch.float32, cpu$"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error" if loud else "ignore")
        with pytest.raises(NotImplementedError, match=message):
            KERNELS["sdpa_flash"](q, k, v, mask=bias)


@pytest.mark.parametrize("name", ["efficient", "cudnn"])
def test_backend_of_another_device_is_refused(name: str) -> None:
    q, k, v = (t.half() for t in make())
    with pytest.raises(NotImplementedError, match=rf"^kernel 'sdpa_{name}' does not support device cpu$"):
        KERNELS[f"sdpa_{name}"](q, k, v)


def test_error_that_is_no_refusal_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setitem(ON_CPU, "math", fail)
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        KERNELS["sdpa_math"](*make())


def test_flash_is_given_each_head_s_own_keys_by_a_torch_that_does_not_group_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    q, k, v = make(2, 4, 33, 49, 16)
    k, v = k[:, :2], v[:, :2]
    expected, attend, heads = KERNELS["sdpa_flash"](q, k, v), torch._scaled_dot_product_flash_attention_for_cpu, []

    def older(q: Tensor, k: Tensor, v: Tensor, *given: Any, **options: Any) -> Any:
        heads.append((q.shape[1], k.shape[1], v.shape[1]))
        return attend(q, k, v, *given, **options)

    monkeypatch.setattr(operators, "GROUPS_BY_SHAPE", False)
    monkeypatch.setattr(torch, "_scaled_dot_product_flash_attention_for_cpu", older)
    assert torch.equal(KERNELS["sdpa_flash"](q, k, v), expected)
    assert heads == [(4, 4, 4)]


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


OPERATORS = {
    "sdpa": "aten._scaled_dot_product_flash_attention_for_cpu.default",
    "sdpa_flash": "aten._scaled_dot_product_flash_attention_for_cpu.default",
    "sdpa_math": "aten.bmm.default",
}


class Noted(TorchDispatchMode):
    """Notes the operators of its own thread."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # its protocol
        self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


def test_threads_that_force_backends_get_each_their_own_and_leave_no_flag_changed() -> None:
    flags = (
        torch.backends.cuda.flash_sdp_enabled,
        torch.backends.cuda.math_sdp_enabled,
        torch.backends.cuda.mem_efficient_sdp_enabled,
        torch.backends.cuda.cudnn_sdp_enabled,
    )
    before = [flag() for flag in flags]  # type: ignore[no-untyped-call]  # torch gives them no types
    inputs = make(1, 2, 32, 32, 16)
    others = set(OPERATORS.values())

    def call(name: str) -> list[str]:
        wrong = []
        for _ in range(200):
            with Noted() as noted:
                KERNELS[name](*inputs)
            if noted.seen & others != {OPERATORS[name]}:
                wrong.append(f"{name} ran {sorted(noted.seen & others)}")
        return wrong

    with ThreadPoolExecutor(len(OPERATORS)) as threads:
        assert [wrong for found in threads.map(call, OPERATORS) for wrong in found] == []
    assert [flag() for flag in flags] == before  # type: ignore[no-untyped-call]  # likewise


def test_threads_that_force_a_backend_on_a_gpu_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[object] = []

    @contextmanager
    def forcing(backend: object) -> Iterator[None]:
        inside.append(backend)
        assert inside == [backend]
        yield
        inside.remove(backend)

    class OnGpu(Tensor):
        is_cuda = True

    monkeypatch.setattr(forced, "sdpa_kernel", forcing)
    monkeypatch.setattr(forced, "_before_sm80", lambda: None)
    q, k, v = make(1, 2, 32, 32, 16)
    function: Any = KERNELS["sdpa_math"].function
    with ThreadPoolExecutor(4) as threads:
        calls = [
            threads.submit(function, q.as_subclass(OnGpu), k, v, mask=None, causal=False, scale=None) for _ in range(50)
        ]
        for done in calls:
            done.result()
