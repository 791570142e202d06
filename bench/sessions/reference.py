"""Holds what a call returned to an error budget around a reference that the test names."""

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from ..plain.errors import CannotDo
from ..plain.evidence import TensorError
from ..plain.printable import counted

Reference = Callable[..., Any]


@dataclass(frozen=True)
class Expected:
    """What the reference makes of the arguments in float64, and what error is normal: of itself in their own dtype."""

    exact: Mapping[str, Any]
    naive: Mapping[str, Any]


def holding(
    reference: Reference | None, args: Sequence[Any], kwargs: Mapping[str, Any], *, counts: bool
) -> Callable[[object], tuple[TensorError, ...]]:
    """Call the reference, if there is one, and return what holds a result to it.

    ``counts`` is true in the head. The base does the same work, since calls may take longer after it, but what it finds
    or raises is ignored.

    Raises:
        CannotDo: as ``expect`` and ``errors``.

    """
    ignoring = nullcontext() if counts else suppress(Exception)
    expected: Expected | None = None
    if reference is not None:
        with ignoring:
            expected = expect(reference, args, kwargs)

    def hold(returned: object) -> tuple[TensorError, ...]:
        if expected is not None:
            with ignoring:
                return errors(returned, expected)
        return ()

    return hold


def expect(reference: Reference, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Expected:
    """Call the reference with copies of the arguments, before the call that may change them.

    Raises:
        CannotDo: torch is not loaded, or the reference returns no tensors.

    """
    if sys.modules.get("torch") is None:
        raise CannotDo("@pytest.mark.gate(reference=...) compares tensors of torch, which the tests do not import")
    exact, naive = (
        reference(*(one(value) for value in args), **{name: one(value) for name, value in kwargs.items()})
        for one in (_in_float64, copy.deepcopy)
    )
    return Expected(_tensors(exact, "the reference"), _tensors(naive, "the reference"))


def errors(returned: object, expected: Expected) -> tuple[TensorError, ...]:
    """Hold every tensor of a result to twice the error of the reference in its own dtype, plus two ulp.

    Integers and booleans have no error: each must be the reference's, in float64 or in its own dtype.

    Raises:
        CannotDo: the result holds other tensors than the reference's.

    """
    results = _tensors(returned, "the call")
    if results.keys() != expected.exact.keys():
        here, there = (", ".join(one) for one in (results, expected.exact))
        raise CannotDo(f"the call returns the tensors {here}, and the reference {there}: let both return the same")
    return tuple(_held(name, one, expected.exact[name], expected.naive[name]) for name, one in results.items())


def _held(name: str, tensor: Any, exact: Any, naive: Any) -> TensorError:
    from ..observing.drift import hold_to_budget  # noqa: PLC0415  # it needs torch, which is there

    kind, wanted = _kind(tensor), _kind(naive)
    if kind != wanted:
        return TensorError(
            name, inf, 0.0, 0.0, complaints=(f"{name}: {kind} values, and the reference's are {wanted}",)
        )
    if kind == "integer or boolean":
        return _same(name, tensor, exact, naive)
    if kind == "complex":  # as pairs of real and imaginary part
        view = sys.modules["torch"].view_as_real
        tensor, exact, naive = (view(one.resolve_conj()) for one in (tensor, exact, naive))
    results = {"out": tensor.detach()}, {"out": exact.double()}, {"out": naive.to(tensor.dtype)}
    (error,) = hold_to_budget(*results, looser=inf)  # the absolute caps of the suite are for standard normal inputs
    complaints = tuple(name + text.removeprefix("out") for text in error.complaints)
    return replace(error, name=name, complaints=complaints)


def _same(name: str, tensor: Any, exact: Any, naive: Any) -> TensorError:
    """Compare integers or booleans; where values tie in one dtype, the reference may choose another in the other."""
    if tensor.shape != exact.shape:
        complaint = f"{name}: shape is {tuple(tensor.shape)}, should be {tuple(exact.shape)}"
        return TensorError(name, inf, 0.0, 0.0, complaints=(complaint,))
    wrong = ((tensor != exact) & (tensor != naive)).flatten()
    off = float((tensor.double() - exact.double()).abs().flatten()[wrong].max()) if wrong.any() else 0.0
    complaint = f"{name}: {int(wrong.sum())} of {counted(wrong.numel(), 'value')} differ from the reference's"
    return TensorError(name, off, 0.0, 0.0, complaints=(complaint,) if off else ())


def _kind(tensor: Any) -> str:
    return "complex" if tensor.is_complex() else "real" if tensor.is_floating_point() else "integer or boolean"


def _tensors(value: Any, whose: str) -> dict[str, Any]:
    """Return the tensors of a result by name: ``out`` of a single one, else by index or key."""
    torch = sys.modules["torch"]
    if isinstance(value, torch.Tensor):
        return {"out": value}
    named = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (tuple, list)) else ()
    )
    found = {(str(name) if isinstance(name, str) else f"out[{name}]"): one for name, one in named}
    if not found or not all(isinstance(one, torch.Tensor) for one in found.values()):
        raise CannotDo(
            f"{whose} returns a {type(value).__qualname__}, and @pytest.mark.gate(reference=...) compares a tensor, or "
            "a tuple, list or mapping of them"
        )
    return found


def _in_float64(value: Any) -> Any:
    """Copy an argument, with tensors of real or complex numbers, also in containers and modules, in float64."""
    torch = sys.modules["torch"]
    if isinstance(value, torch.nn.Module):
        module = copy.deepcopy(value)
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = _wide(tensor.data)
        return module
    if isinstance(value, torch.Tensor):
        return _wide(value.detach().clone()).requires_grad_(value.requires_grad)
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(_in_float64(one) for one in value)
    if type(value) is dict:
        return {name: _in_float64(one) for name, one in value.items()}
    return copy.deepcopy(value)


def _wide(tensor: Any) -> Any:
    torch = sys.modules["torch"]
    dtype = {"real": torch.float64, "complex": torch.complex128}.get(_kind(tensor))
    return tensor if dtype is None else tensor.to(dtype)
