"""Fresh memory is filled, however it is allocated and in the backward pass too, and no other memory is."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.observing.poison import LARGE, NAN, ZERO, Filling, Poison

X = torch.ones(2, 3)


@torch.library.custom_op("poison_test::fresh", mutates_args=())
def fresh(x: Tensor) -> Tensor:
    """Return uninitialised memory."""
    return x.new_empty(x.shape)


@pytest.mark.parametrize("filling", [NAN, LARGE, ZERO])
@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.empty(2, 3),
        lambda: torch.empty(2, 3, dtype=torch.float16),
        lambda: torch.empty_like(X),
        lambda: X.new_empty(4),
        lambda: torch.empty_strided((2, 2), (1, 2)),
        lambda: torch.empty_permuted((2, 3), (1, 0)),
        lambda: X.new_empty_strided((2,), (1,)),
        lambda: torch.Tensor(5),
        lambda: torch.ones(2).resize_(5)[2:],
        lambda: fresh(X),
    ],
)
def test_fresh_memory_is_filled(made: Callable[[], Tensor], filling: Filling) -> None:
    with Poison(filling):
        tensor = made()
    want = torch.full_like(tensor, filling.floating)
    assert torch.equal(tensor.nan_to_num(nan=7.0), want.nan_to_num(nan=7.0))


def test_integers_and_flags_are_filled_with_what_they_can_hold() -> None:
    with Poison(NAN):
        assert torch.empty(1, dtype=torch.int8).item() == 127
        assert torch.empty(1, dtype=torch.bool).item() is True
    with Poison(LARGE):
        assert torch.empty(1, dtype=torch.int64).item() == 1


def test_what_was_written_stays() -> None:
    with Poison(NAN):
        assert torch.equal(torch.ones(4).resize_(2), torch.ones(2))
        assert torch.equal(X @ X.mT, torch.full((2, 2), 3.0))
        assert torch.zeros_like(X).sum() == 0


def test_a_call_may_trace_gradients_through_tensors_without_data() -> None:
    with FakeTensorMode(), Poison(NAN):
        x = torch.ones(3, requires_grad=True)
        (gradient,) = torch.autograd.grad(
            (2 * x).sum(), x
        )  # asks for a tensor's device, where an error ends the process
    assert gradient.shape == x.shape
