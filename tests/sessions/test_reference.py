"""Results held to a reference: complex numbers by both parts, whole numbers exactly."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.sessions.reference import holding

generator = torch.Generator().manual_seed(0)
X = torch.randn(16, generator=generator)
Z = torch.randn(16, dtype=torch.complex64, generator=generator)


class Spectral(nn.Module):
    """A layer with complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(Z.clone())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.fft.ifft(torch.fft.fft(x) * self.weight)
        return found


def complaints(function: Callable[..., Any], reference: Callable[..., Any], *args: Any) -> list[str]:
    """Return what is said of a function's results."""
    hold = holding(reference, args, {}, counts=True)
    return [complaint for error in hold(function(*args)) for complaint in error.complaints]


RIGHT: list[tuple[Callable[..., Any], Callable[..., Any], object]] = [
    (lambda z: torch.fft.ifft(torch.fft.fft(z)), lambda z: z.clone(), Z),
    (torch.conj, lambda z: z.conj().resolve_conj(), Z),
    (lambda x: x.topk(3), lambda x: tuple(one[:3] for one in x.sort(descending=True)), X),
    (lambda x: x > 0, lambda x: 0 < x, X),  # noqa: SIM300  # otherwise than the function does it
    (lambda x: x[:0] > 0, lambda x: x[:0] < 0, X),
    # In its own dtype the two are equal, in float64 the second is larger.
    (
        lambda x: x.double().mul(1 + 1e-12).argmax(),
        lambda x: x.mul(1 + 1e-12 * torch.arange(2)).argmax(),
        X[:1].expand(2),
    ),
]


@pytest.mark.parametrize(("function", "reference", "given"), RIGHT)
def test_what_the_reference_returns_too_is_right(
    function: Callable[..., Any], reference: Callable[..., Any], given: object
) -> None:
    assert complaints(function, reference, given) == []


def test_a_module_with_complex_weights_is_called_in_double_precision() -> None:
    layer = Spectral()
    with torch.no_grad():
        assert complaints(lambda layer, x: layer(x), lambda layer, x: layer.forward(x), layer, X) == []
        (said,) = complaints(lambda layer, x: layer(x) * 1.001, lambda layer, x: layer.forward(x), layer, X)
    assert said.startswith("out: error ")
    assert layer.weight.dtype == torch.complex64  # a copy was converted


WRONG: list[tuple[Callable[..., Any], Callable[..., Any], object, str]] = [
    (torch.conj, lambda z: z.clone(), Z, "out: error "),
    (lambda z: z.real, lambda z: z.clone(), Z, "out: real values, and the reference's are complex"),
    (lambda x: x.long(), lambda x: x.clone(), X, "out: integer or boolean values, and the reference's are real"),
    (lambda x: x.topk(3), lambda x: x.topk(3, largest=False), X, "out[0]: error "),
    (
        lambda x: x.argsort(),
        lambda x: x.argsort(descending=True),
        X,
        "out: 16 of 16 values differ from the reference's",
    ),
    (lambda x: x > 0, lambda x: x > x.min(), X[X.argsort()[-2:]], "out: 1 of 2 values differ from the reference's"),
    (lambda x: x[1:] > 0, lambda x: x > 0, X, "out: shape is (15,), should be (16,)"),
]


@pytest.mark.parametrize(("function", "reference", "given", "said"), WRONG)
def test_what_the_reference_does_not_return_is_said(
    function: Callable[..., Any], reference: Callable[..., Any], given: object, said: str
) -> None:
    assert complaints(function, reference, given)[0].startswith(said)
