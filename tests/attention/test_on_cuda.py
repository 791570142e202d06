"""``sdpa`` where it is not on a CPU: what it lays out anew, and what it takes the formula for."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import attention
from attention.sdpa_gpu import ALIGNMENT, _aligned, _by_formula, _spread, _unseeing_zeroed

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
LOWEST = torch.finfo(torch.float32).min


def drawn(*size: int, device: str = "cpu") -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("first", [0, 1, 4, 8])
@pytest.mark.parametrize("behind", [0, 4, 9, 16])
def test_rows_begin_at_whole_multiples_of_what_is_read_at_once(dtype: torch.dtype, first: int, behind: int) -> None:
    width = first + 8 + behind
    x = drawn(2, 3, 5, width).to(dtype)[..., first : first + 8]
    given = _aligned(x)
    assert torch.equal(given, x)
    assert all(step * x.itemsize % ALIGNMENT == 0 for step in (given.storage_offset(), *given.stride()[:-1]))
    assert (given is x) is (first * x.itemsize % ALIGNMENT == 0 and width * x.itemsize % ALIGNMENT == 0)


@pytest.mark.parametrize(
    "mask",
    [
        drawn(3, 1) > 0,
        drawn(2, 1, 3, 1),
        drawn(5, 3).T,
        drawn(3, 10)[:, ::2],
        drawn(1, 3, 1)[..., :1].expand(2, 3, 1),
    ],
)
def test_a_mask_has_a_value_for_each_key_one_behind_the_other(mask: Tensor) -> None:
    given = _spread(mask, 5)
    assert given.shape[-1] == 5
    assert given.stride(-1) == 1
    assert torch.equal(given, mask.expand(given.shape))


def test_a_mask_that_is_laid_out_so_is_not_copied() -> None:
    mask = drawn(3, 1, 1, 5).expand(3, 2, 4, 5)
    assert _spread(mask, 5) is mask


def test_tensors_without_data_take_the_same_way() -> None:
    q = torch.empty(2, 4, 3, 9, device="meta")[..., 1:]
    mask = torch.empty(3, 1, device="meta")
    assert attention.KERNELS["sdpa"](q, q, q, mask=mask).shape == (2, 4, 3, 8)


def test_the_formula_is_refused_where_its_backend_is_not_to_be_used() -> None:
    q, mask = drawn(1, 2, 3, 8), torch.full((3, 3), LOWEST)
    with sdpa_kernel(SDPBackend.MATH):
        want = F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    assert torch.equal(_by_formula(q, q, q, mask, scale=None, grouped=False), want)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), pytest.raises(NotImplementedError, match="enable PyTorch's math"):
        _by_formula(q, q, q, mask, scale=None, grouped=False)


@pytest.mark.parametrize(
    "hide", [torch.Tensor.logical_not, lambda hidden: torch.zeros(3, 5).masked_fill(hidden, -torch.inf)]
)
def test_a_row_that_sees_no_key_is_zero_and_so_are_its_gradients(hide: Any) -> None:
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    hidden[1], hidden[2, 2:] = True, True
    q, k, v = (drawn(1, 2, n, 8).requires_grad_() for n in (3, 5, 5))
    # As cuDNN has it: a row of which every score is hidden alike has the mean of the values.
    means = (q @ k.mT * 8**-0.5).masked_fill(hidden, LOWEST).softmax(dim=-1) @ v
    assert means[0, 0, 1].abs().min() > 0
    out = _unseeing_zeroed(means, hide(hidden))
    want = attention.KERNELS["masked"](q, k, v, mask=~hidden)
    torch.testing.assert_close(out, want)
    for got, exact in zip(*(torch.autograd.grad(x.sum(), (q, k, v)) for x in (out, want)), strict=True):
        torch.testing.assert_close(got, exact)


def results(kernel: str, inputs: list[Tensor], mask: Tensor | None) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = attention.KERNELS[kernel](*leaves, mask=mask)
    return [out.detach(), *torch.autograd.grad(out.sum(), leaves)]


@pytest.mark.cuda
@pytest.mark.parametrize(
    "mask",
    [
        torch.full((20, 28), LOWEST),
        torch.where(drawn(20, 28) > 0, 0.0, LOWEST).index_fill(0, torch.tensor([3, 7]), LOWEST),
        drawn(20, 28).index_fill(0, torch.tensor([0]), -torch.inf),
        drawn(20, 1),
        drawn(28, 20).T,
        drawn(20, 1) > 0,
    ],
)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_sdpa_is_right_with_any_mask_on_cuda(mask: Tensor, dtype: torch.dtype) -> None:
    q, k, v = (drawn(2, 2, n, 64, device="cuda").to(dtype) for n in (20, 28, 28))
    mask = mask.cuda()
    for got, want in zip(results("sdpa", [q, k, v], mask), results("masked", [q, k, v], mask), strict=True):
        torch.testing.assert_close(got, want, atol=TOLERANCES[dtype], rtol=1e-2)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("first", [1, 2, 4])
def test_sdpa_takes_parts_of_larger_tensors_on_cuda(dtype: torch.dtype, first: int) -> None:
    q = drawn(2, 2, 20, 69, device="cuda").to(dtype)[..., first : first + 64]
    for got, want in zip(results("sdpa", [q] * 3, None), results("masked", [q] * 3, None), strict=True):
        torch.testing.assert_close(got, want, atol=TOLERANCES[dtype], rtol=1e-2)
