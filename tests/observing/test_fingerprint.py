"""Fingerprints: ops, backend, bytes and arguments of real calls, each pass on its own."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.observing.fingerprint import fingerprint
from bench.plain.execution import Fingerprint, Pass, SdpaCall


def attend(*shape: int, backward: bool = False) -> Fingerprint:
    q, k, v = (torch.randn(shape, requires_grad=backward) for _ in range(3))

    def forward() -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)

    return fingerprint(forward, (lambda out: torch.autograd.grad(out.sum(), (q, k, v))) if backward else None)


def test_the_fused_backend_is_seen_and_each_pass_has_its_own_ops() -> None:
    seen = attend(1, 2, 16, 8, backward=True)
    assert seen.backend == "flash"
    assert seen.forward.ops["aten._scaled_dot_product_flash_attention_for_cpu"] == 1
    assert "aten._scaled_dot_product_flash_attention_for_cpu_backward" not in seen.forward.ops
    assert seen.backward is not None
    assert seen.backward.ops["aten._scaled_dot_product_flash_attention_for_cpu_backward"] == 1
    assert sum(seen.ops.values()) == sum(seen.forward.ops.values()) + sum(seen.backward.ops.values())


def test_three_dimensional_inputs_fall_back_to_math_and_take_more_memory() -> None:
    fused, fallen = attend(1, 2, 512, 16), attend(2, 512, 16)
    assert (fused.backend, fallen.backend) == ("flash", "math")
    assert fallen.peak_bytes > 10 * fused.peak_bytes


def test_one_call_of_several_that_falls_back_shows_in_the_backend() -> None:
    q = torch.randn(1, 2, 16, 8)

    def forward() -> Tensor:
        return F.scaled_dot_product_attention(q, q, q) + F.scaled_dot_product_attention(q, q, q, dropout_p=0.1)

    assert fingerprint(forward).backend == "flash, math"
    assert fingerprint(lambda: q @ q.mT).backend is None


def test_the_arguments_that_decide_the_backend_are_noted_once_where_calls_are_alike() -> None:
    q, k = torch.randn(1, 4, 6, 8), torch.randn(1, 2, 6, 8)
    bias = torch.zeros(6, 6, requires_grad=True)

    def forward() -> None:
        for _ in range(2):
            F.scaled_dot_product_attention(q, k, k, bias, 0.25, enable_gqa=True)
        torch.ops.aten.scaled_dot_product_attention(q, q.mT.contiguous().mT, q, is_causal=True)

    masked, causal = fingerprint(forward).sdpa
    assert masked == SdpaCall(
        (1, 4, 6, 8), (1, 2, 6, 8), (1, 2, 6, 8), (1, 1, 1), "float32", (6, 6), "float32", True, 0.25, False, True
    )
    assert causal.causal
    assert causal.last_strides == (1, 6, 1)


def kept_to_the_end(x: Tensor) -> None:
    a = x * 2
    b = a + 1
    c = b * b
    del a, b, c


def in_place(x: Tensor) -> None:
    y = x * 2
    y += 1
    y.relu_()


@pytest.mark.parametrize(
    ("call", "alive", "allocated"),
    [
        (kept_to_the_end, 3, 3),
        (lambda x: x * 2 * 2 * 2, 2, 3),
        (lambda x: x.view(-1)[::2].unsqueeze(0), 0, 0),
        (lambda x: (x * 2).view(-1)[::2].unsqueeze(0), 1, 1),
        (in_place, 1, 1),
    ],
)
def test_bytes_count_the_storages_alive_together_and_all_that_were_allocated(
    call: Callable[[Tensor], None], alive: int, allocated: int
) -> None:
    x = torch.randn(1024)
    seen = fingerprint(lambda: call(x))
    assert seen.peak_bytes == alive * x.nbytes
    assert seen.allocated_bytes == allocated * x.nbytes


def test_what_autograd_keeps_for_the_backward_pass_is_alive_in_both() -> None:
    x = torch.randn(1024, requires_grad=True)
    upstream = torch.ones(1024)

    def forward() -> Tensor:
        return x.sin().exp()  # keeps the input of sin (not the call's own) and the output of exp

    seen = fingerprint(forward, lambda out: torch.autograd.grad(out, x, upstream))
    assert seen.forward.peak_bytes == 2 * x.nbytes
    assert seen.backward is not None
    assert seen.backward.peak_bytes == 4 * x.nbytes  # exp's output, its gradient, cos(x), and their product
    assert seen.backward.allocated_bytes == 3 * x.nbytes
    assert seen.peak_bytes == 4 * x.nbytes


def test_a_backward_pass_that_allocates_nothing_still_has_what_is_alive() -> None:
    x = torch.randn(1024)
    seen = fingerprint(lambda: x * 2, lambda out: out.view(-1))
    assert seen.backward == Pass({"aten.view": 1}, x.nbytes, 0)


def test_the_same_call_has_the_same_fingerprint_fifty_times() -> None:
    assert len({str(attend(1, 4, 64, 16, backward=True)) for _ in range(50)}) == 1


def test_on_cuda_the_allocator_counts_the_bytes_of_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    alive, highest, total = [100, 0], [130, 190], [1000, 1040, 1040, 1090, 1090]
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("wait"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: log.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: alive[0])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: highest.pop(0))
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda: {"allocated_bytes.all.allocated": total.pop(0)})
    seen = fingerprint(lambda: log.append("forward"), lambda _: log.append("backward"), device="cuda")
    assert seen.backward is not None
    assert (seen.forward.peak_bytes, seen.forward.allocated_bytes) == (30, 40)
    assert (seen.backward.peak_bytes, seen.backward.allocated_bytes) == (90, 50)
    assert log.index("forward") > log.index("reset")
    assert log[log.index("forward") + 1] == "wait"
    assert log[log.index("backward") + 1] == "wait"
