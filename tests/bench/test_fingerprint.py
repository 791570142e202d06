"""Fingerprints: ops, backend and live bytes of real calls."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.evidence import Fingerprint
from bench.fingerprint import fingerprint


def attend(*shape: int, backward: bool = False) -> Fingerprint:
    q, k, v = (torch.randn(shape, requires_grad=backward) for _ in range(3))

    def call() -> None:
        out = F.scaled_dot_product_attention(q, k, v)
        if backward:
            out.sum().backward()

    return fingerprint(call)


def test_the_fused_backend_is_seen_forward_and_backward() -> None:
    seen = attend(1, 2, 16, 8, backward=True)
    assert seen.backend == "flash"
    assert seen.ops["aten._scaled_dot_product_flash_attention_for_cpu"] == 1
    assert seen.ops["aten._scaled_dot_product_flash_attention_for_cpu_backward"] == 1


def test_three_dimensional_inputs_fall_back_to_math_and_take_more_memory() -> None:
    fused, fallen = attend(1, 2, 512, 16), attend(2, 512, 16)
    assert (fused.backend, fallen.backend) == ("flash", "math")
    assert fallen.peak_bytes > 10 * fused.peak_bytes


def test_no_attention_op_means_no_backend() -> None:
    x = torch.randn(8, 8)
    assert fingerprint(lambda: x @ x).backend is None


def kept_to_the_end(x: Tensor) -> None:
    a = x * 2
    b = a + 1
    c = b * b
    del a, b, c


def freed_at_once(x: Tensor) -> None:
    for _ in range(3):
        x = x * 2


def views_only(x: Tensor) -> None:
    x.view(-1)[::2].unsqueeze(0)


def in_place(x: Tensor) -> None:
    y = x * 2
    y += 1
    y.relu_()


@pytest.mark.parametrize(
    ("call", "tensors"), [(kept_to_the_end, 3), (freed_at_once, 2), (views_only, 0), (in_place, 1)]
)
def test_peak_bytes_count_the_storages_alive_together(call: object, tensors: int) -> None:
    x = torch.randn(1024)
    assert callable(call)
    assert fingerprint(lambda: call(x)).peak_bytes == tensors * x.nbytes


def test_what_autograd_keeps_for_the_backward_pass_counts_as_alive() -> None:
    x = torch.randn(1024, requires_grad=True)

    def forward() -> Tensor:
        return x.sin().exp()  # keeps the input of sin (ours) and the output of exp

    held: list[Tensor] = []
    assert fingerprint(lambda: held.append(forward())).peak_bytes == 2 * x.nbytes


def test_the_same_call_has_the_same_fingerprint_every_time() -> None:
    assert len({str(attend(1, 4, 64, 16, backward=True)) for _ in range(20)}) == 1
