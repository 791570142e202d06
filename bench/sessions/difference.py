"""How two results of a benchmark differ, whatever they are."""

import math
import pickle
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from ..plain.printable import readable

LONGEST = 80  # characters of a value that is shown


@dataclass(frozen=True)
class Difference:
    """``found`` says where two results differ, ``unknown`` why that cannot be told; neither: they are the same."""

    found: str | None = None
    unknown: str | None = None


SAME = Difference()


def between(head: object, base: object, where: str = "the result") -> Difference:
    """Compare two results: tensors and arrays by the tolerances of their dtype, containers by item, others by ``==``.

    NaN equals NaN. Tolerances are those of ``torch.testing.assert_close``, for arrays of NumPy too.
    """
    if type(head).__qualname__ != type(base).__qualname__:
        return Difference(f"{where} is of type {type(head).__qualname__}, and {type(base).__qualname__} in the base")
    try:
        return _of_one_type(head, base, where)
    except Exception as error:  # noqa: BLE001  # whatever ``==`` of a class does
        return Difference(unknown=f"{where} cannot be compared ({type(error).__name__}: {error})")


def _of_one_type(head: Any, base: Any, where: str) -> Difference:
    if _is_array(head):
        return _of_arrays(head, base, where)
    if isinstance(head, Mapping):
        if head.keys() != base.keys():
            only = sorted(map(repr, head.keys() ^ base.keys()))
            return Difference(f"{where} has other keys than in the base: {_short(', '.join(only))} on one side alone")
        return _first(between(value, base[key], f"{where}[{key!r}]") for key, value in head.items())
    if isinstance(head, Sequence) and not isinstance(head, (str, bytes, bytearray, memoryview, range)):
        if len(head) != len(base):
            return Difference(f"{where} has {len(head)} items, and {len(base)} in the base")
        pairs = zip(head, base, strict=True)
        return _first(between(one, other, f"{where}[{i}]") for i, (one, other) in enumerate(pairs))
    if isinstance(head, float) and math.isnan(head) and math.isnan(base):
        return SAME
    return _of_objects(head, base, where)


def _of_objects(head: Any, base: Any, where: str) -> Difference:
    if not isinstance(head, AbstractSet) and getattr(type(head), "__eq__") is object.__eq__:  # noqa: B009  # as mypy asks
        same_bits = pickle.dumps(head) == pickle.dumps(base)
        name = type(head).__qualname__
        return SAME if same_bits else Difference(unknown=f"{where} is of type {name}, which defines no equality")
    equal = head == base
    if equal is True:
        return SAME
    if hasattr(equal, "all"):  # of a class that compares item by item
        return SAME if bool(equal.all()) else _of_states(head, base, where)
    if equal is False:
        one, other = _where_they_differ(repr(head), repr(base))
        return Difference(f"{where} is {one}, and {other} in the base")
    return Difference(
        unknown=f"{where}: == of {type(head).__qualname__} gives a {type(equal).__qualname__}, not a bool"
    )


def _of_states(head: Any, base: Any, where: str) -> Difference:
    """Compare what pickle would store of two objects whose ``==`` finds items that differ, with tolerances."""
    (make, *stored), (other_make, *other) = (value.__reduce_ex__(4) for value in (head, base))
    if make is not other_make:
        return Difference(f"{where} is of type {type(head).__qualname__}, which is made otherwise in the base")
    return between(stored, other, f"what {where} holds")


def _first(found: Any) -> Difference:
    """Return the first difference, else the first that cannot be told."""
    unknown = SAME
    for one in found:
        if one.found is not None:
            return one  # type: ignore[no-any-return]  # of ``between``
        unknown = one if unknown is SAME else unknown
    return unknown


def _is_array(value: object) -> bool:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    return (numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))) or (
        torch is not None and isinstance(value, torch.Tensor)
    )


def _of_arrays(head: Any, base: Any, where: str) -> Difference:
    """Compare by ``torch.testing`` or ``numpy.testing``."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(head, torch.Tensor):
            torch.testing.assert_close(head, base, equal_nan=True, check_stride=False)
        else:
            _assert_arrays_close(head, base)
    except AssertionError as error:
        said = " ".join(readable(str(error)).split())
        return Difference(f"{where}: {said}")
    return SAME


def _assert_arrays_close(head: Any, base: Any) -> None:
    import numpy as np  # noqa: PLC0415  # it is loaded: there are arrays

    for what, one, other in (("dtype", head.dtype, base.dtype), ("shape", head.shape, base.shape)):
        if one != other:  # no assert statement: python -O leaves those out
            raise AssertionError(f"{what} {one}, and {other} in the base")
    if head.dtype.kind not in "fc":
        np.testing.assert_array_equal(head, base)
        return
    of_part = np.finfo(head.dtype).dtype.itemsize  # a complex number has the tolerance of its parts
    rtol, atol = {2: (1e-3, 1e-5), 4: (1.3e-6, 1e-5)}.get(of_part, (1e-7, 1e-7))
    np.testing.assert_allclose(head, base, rtol=rtol, atol=atol, equal_nan=True)


def _where_they_differ(one: str, other: str) -> tuple[str, str]:
    """Cut two texts to what surrounds the first character that differs."""
    same = next((i for i, (here, there) in enumerate(zip(one, other, strict=False)) if here != there), 0)
    start = max(0, same - LONGEST // 4) if max(len(one), len(other)) > LONGEST else 0
    before = "…" if start else ""
    return before + _short(one[start:]), before + _short(other[start:])


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
