"""How two results of a benchmark differ, whatever they are."""

import cmath
import math
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..plain.printable import first_line, readable

LONGEST = 80  # characters of a value that is shown


@dataclass(frozen=True)
class Difference:
    """``found`` says where two results differ, ``unknown`` why that cannot be told; the same results have neither."""

    found: str | None = None
    unknown: str | None = None


def between(head: object, base: object, places: Mapping[Path, Path] | None = None) -> Difference:
    """Compare two results: tensors and arrays by the tolerances of their dtype, containers by item, others by ``==``.

    Objects without a usable ``==`` are compared by what pickle would store of them. NaN equals NaN. Tolerances are
    those of ``torch.testing.assert_close``, for arrays of NumPy too. ``places`` maps the path of a checkout to that of
    the repository; in texts and paths the first counts as the second.
    """
    found = _Comparison({str(checkout): str(repository) for checkout, repository in (places or {}).items()})
    found.compare(head, base, "the result")
    return Difference(found.found, None if found.found else found.unknown)


class _Comparison:
    def __init__(self, places: Mapping[str, str]) -> None:
        self.found: str | None = None
        self.unknown: str | None = None
        self._places = places
        self._compared: dict[tuple[int, int], tuple[object, object]] = {}  # kept alive, since ids are reused

    def compare(self, head: Any, base: Any, where: str) -> None:
        if head is base or self.found is not None or (id(head), id(base)) in self._compared:
            return
        if not isinstance(head, (str, bytes, int, float)):  # all others may refer to each other in a cycle
            self._compared[id(head), id(base)] = head, base
        if type(head).__qualname__ != type(base).__qualname__:
            self._add(where, f" is of type {type(head).__qualname__}, and {type(base).__qualname__} in the base")
            return
        try:
            self._compare(head, base, where)
        except Exception as error:  # noqa: BLE001  # whatever a class does
            self._cannot_tell(f"{where} cannot be compared ({type(error).__name__}: {first_line(str(error))})")

    def _compare(self, head: Any, base: Any, where: str) -> None:
        if _is_array(head):
            self._compare_arrays(head, base, where)
        elif isinstance(head, Mapping):
            self._compare_mappings(head, base, where)
        elif isinstance(head, (str, bytes, PurePath)):
            if self._at_home(head) != self._at_home(base):
                self._differ(head, base, where)
        elif isinstance(head, Sequence) and not isinstance(head, (bytearray, memoryview, range)):
            self._compare_sequences(head, base, where)
        elif isinstance(head, (float, complex)):
            if not _same_number(head, base):
                self._differ(head, base, where)
        else:
            self._compare_objects(head, base, where)
            return
        own = getattr(head, "__dict__", None)  # such as the unit of an array, or what a subclass of list counts
        if own and type(head).__module__.partition(".")[0] not in ("numpy", "torch"):
            self.compare(own, base.__dict__, f"{where}.__dict__")

    def _compare_mappings(self, head: Mapping[Any, Any], base: Mapping[Any, Any], where: str) -> None:
        if head.keys() != base.keys():
            only = ", ".join(sorted(map(repr, head.keys() ^ base.keys())))
            self._add(where, f" has other keys than in the base: {_short(only)} on one side alone")
            return
        for key, value in head.items():
            self.compare(value, base[key], f"{where}[{key!r}]")

    def _compare_sequences(self, head: Sequence[Any], base: Sequence[Any], where: str) -> None:
        if len(head) != len(base):
            self._add(where, f" has {len(head)} items, and {len(base)} in the base")
            return
        for i, (one, other) in enumerate(zip(head, base, strict=True)):
            self.compare(one, other, f"{where}[{i}]")

    def _compare_objects(self, head: Any, base: Any, where: str) -> None:
        equal: object = None
        if isinstance(head, AbstractSet) or getattr(type(head), "__eq__") is not object.__eq__:  # noqa: B009  # for mypy
            with suppress(Exception):  # such as a field that is an array, which has no truth value
                equal = head == base
            equal = equal if isinstance(equal, bool) else None  # an elementwise == returns no bool
        if equal is None:
            with suppress(Exception):  # data frames and labelled arrays may store equal contents in several ways
                equal = head.equals(base) is True or None
        # Objects that == calls different may hold the same: == may compare identity, or values that differ by rounding.
        if equal is None or (equal is False and (getattr(head, "__dict__", None) or _compares_fields(type(head)))):
            self._compare_states(head, base, where)
        elif equal is False:
            self._differ(head, base, where)

    def _compare_states(self, head: Any, base: Any, where: str) -> None:
        """Compare what pickle would store of two objects: the attributes that both have, and the rest."""
        one, other = _Stored.of(head), _Stored.of(base)
        if one.make != other.make or one.attributes.keys() != other.attributes.keys():
            self._cannot_tell(f"{where} is of type {type(head).__qualname__}, which holds other attributes in the base")
        else:
            self.compare(one.parts, other.parts, f"{where}, as pickled, ")
        for name in (name for name in one.attributes if name in other.attributes):
            self.compare(one.attributes[name], other.attributes[name], f"{where}.{name}")

    def _compare_arrays(self, head: Any, base: Any, where: str) -> None:
        """Compare by ``torch.testing`` or ``numpy.testing``; an array of objects, or with fields, by its parts."""
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        try:
            if torch is not None and isinstance(head, torch.Tensor):
                torch.testing.assert_close(head, base, equal_nan=True, check_stride=False)
                return
            assert numpy is not None  # it is an array
            _assert_of_one_kind(head, base)
            if head.dtype.names:
                for name in head.dtype.names:
                    self.compare(head[name], base[name], f"{where}[{name!r}]")
            elif head.dtype.kind == "O":
                self.compare(head.tolist(), base.tolist(), where)
            elif isinstance(head, numpy.ma.MaskedArray):
                hidden = numpy.ma.getmaskarray(head)
                _assert_values_close(hidden, numpy.ma.getmaskarray(base))
                _assert_values_close(head.data[~hidden], base.data[~hidden])
            else:
                _assert_values_close(head, base)
        except AssertionError as error:
            self._add(where, f": {' '.join(readable(str(error)).split())}")

    def _at_home(self, text: Any) -> Any:
        """Return a text, or a path as text, with the repository's path in place of each checkout's."""
        if isinstance(text, PurePath):
            text = str(text)
        for checkout, repository in self._places.items():
            if isinstance(text, bytes):
                text = text.replace(checkout.encode(), repository.encode())
            else:
                text = text.replace(checkout, repository)
        return text

    def _differ(self, head: object, base: object, where: str) -> None:
        try:
            one, other = _where_they_differ(repr(head), repr(base))
        except Exception:  # noqa: BLE001  # such as an integer of too many digits
            self._add(where, f" is a different {type(head).__qualname__} in the base")
        else:
            self._add(where, f" is {one}, and {other} in the base")

    def _add(self, where: str, said: str) -> None:
        self.found = self.found or f"{where}{said}"

    def _cannot_tell(self, why: str) -> None:
        self.unknown = self.unknown or why


@dataclass(frozen=True)
class _Stored:
    """What pickle stores of an object: what makes it, its attributes, and the other parts."""

    make: object
    attributes: Mapping[str, Any]
    parts: Sequence[Any]

    @classmethod
    def of(cls, value: Any) -> "_Stored":
        make, arguments, *rest = value.__reduce_ex__(4)
        state, *items = rest or [None]
        states = state if isinstance(state, tuple) and len(state) == 2 else (state,)  # with slots: two
        named = [part for part in states if isinstance(part, dict)]
        attributes = {str(name): held for part in named for name, held in part.items()}
        others = [] if named else [state]
        parts = [arguments, *others, *(None if part is None else list(part) for part in items[:2])]
        return cls(make, {n: v for n, v in attributes.items() if n not in _uncompared(type(value))}, parts)


def _compares_fields(kind: type) -> bool:
    """Whether ``==`` was generated to compare fields, as a dataclass's is; the fields are compared with tolerances."""
    return getattr(getattr(kind.__eq__, "__code__", None), "co_filename", "").startswith("<")


def _uncompared(kind: type) -> set[str]:
    """Return the names of fields that ``==`` of a dataclass, or of a class by attrs, leaves out."""
    dataclass_fields = getattr(kind, "__dataclass_fields__", {}).values()
    attrs_fields = getattr(kind, "__attrs_attrs__", ())
    return {one.name for one in dataclass_fields if not one.compare} | {one.name for one in attrs_fields if not one.eq}


def _is_array(value: object) -> bool:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    return (numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))) or (
        torch is not None and isinstance(value, torch.Tensor)
    )


def _same_number(one: complex, other: complex) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if not (cmath.isnan(one) or cmath.isnan(other)):
        return one == other
    return _same_number(one.real, other.real) and _same_number(one.imag, other.imag)


def _assert_of_one_kind(head: Any, base: Any) -> None:
    for what, one, other in (("dtype", head.dtype, base.dtype), ("shape", head.shape, base.shape)):
        if one != other:  # no assert statement: python -O leaves those out
            raise AssertionError(f"{what} {one}, and {other} in the base")


def _assert_values_close(head: Any, base: Any) -> None:
    import numpy as np  # noqa: PLC0415  # it is loaded: there are arrays

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
