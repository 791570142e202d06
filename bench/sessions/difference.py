"""How two results of a benchmark differ, whatever they are."""

import re
import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import FunctionType
from typing import Any

from ..plain.printable import first_line, readable
from .arrays import as_numpy, assert_close, assertion_of, is_array, same_number

LONGEST = 80  # characters of a value that is shown
ADDRESS = re.compile("0x[0-9a-f]+")  # of an object in memory


@dataclass(frozen=True)
class Difference:
    """``found`` says where two results differ, ``unknown`` why that cannot be told; the same results have neither."""

    found: str | None = None
    unknown: str | None = None


def between(
    head: object, base: object, places: Mapping[Path, Path] | None = None, what: str = "the result"
) -> Difference:
    """Compare two results: tensors and arrays by the tolerances of their dtype, containers by item, others by ``==``.

    Objects without a usable ``==`` are compared by what pickle would store of them. NaN equals NaN. Tolerances are
    those of ``torch.testing.assert_close``, for arrays of NumPy too. ``places`` maps paths of one side to those that
    they count as in texts and paths, such as a checkout to the repository. ``what`` names the results in the answer.
    """
    found = _Comparison({str(own): str(common) for own, common in (places or {}).items()})
    found.compare(head, base, what)
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
        if type(head) is not type(base) and _kind(head) != _kind(base):
            one, other = type(head).__qualname__, type(base).__qualname__
            if one == other:
                one, other = (f"{kind.__module__}.{kind.__qualname__}" for kind in (type(head), type(base)))
            self._add(where, f" is of type {one}, and {other} in the base")
            return
        try:
            self._compare(head, base, where)
        except Exception as error:  # noqa: BLE001  # whatever a class does
            self._cannot_tell(f"{where} cannot be compared ({type(error).__name__}: {first_line(str(error))})")

    def _compare(self, head: Any, base: Any, where: str) -> None:
        if is_array(head):
            self._assert(lambda: assert_close(head, base, self.compare, where), where)
        elif isinstance(head, Mapping):
            self._compare_mappings(head, base, where)
        elif isinstance(head, (str, bytes, PurePath)):
            if self._at_home(head) != self._at_home(base):
                self._differ(head, base, where)
        elif isinstance(head, Sequence) and not isinstance(head, (bytearray, memoryview, range)):
            self._compare_sequences(head, base, where)
        elif isinstance(head, (float, complex)):
            if not same_number(head, base):
                self._differ(head, base, where)
        elif (check := assertion_of(type(head))) is not None:
            self._assert(lambda: check(head, base), where)
            return  # its attributes are how it stores what has been compared
        else:
            self._compare_objects(head, base, where)
            return
        # Such as the unit of an array, or what a subclass of list counts.
        self._compare_attributes(head, _attributes(head), _attributes(base), where)

    def _compare_mappings(self, head: Mapping[Any, Any], base: Mapping[Any, Any], where: str) -> None:
        only = head.keys() ^ base.keys()
        if only and len(head) == len(base) and not any(_defines(key, "__hash__") for key in only):
            self._compare_sequences([*head.items()], [*base.items()], f"{where}.items()")  # no key equals another
        elif only and self._alike(in_order := self._in_order(head), in_base := self._in_order(base)):
            for one, other in zip(in_order, in_base, strict=True):
                self.compare(head[one], base[other], f"{where}[{one!r}]")
        elif only:
            names = ", ".join(sorted(map(repr, only)))
            self._add(where, f" has other keys than in the base: {_short(names)} on one side alone")
        else:
            if isinstance(head, OrderedDict) and [*head] != [*base]:
                self._add(where, " has its keys in another order than in the base")
            for key, value in head.items():
                self.compare(value, base[key], f"{where}[{key!r}]")

    def _compare_sequences(self, head: Sequence[Any], base: Sequence[Any], where: str) -> None:
        if isinstance(head, array) and head.typecode != base.typecode:  # type: ignore[attr-defined]  # of one type
            self._add(where, f" has items of type {head.typecode}, and {base.typecode} in the base")  # type: ignore[attr-defined]
        if len(head) != len(base):
            self._add(where, f" has {len(head)} items, and {len(base)} in the base")
            return
        for i, (one, other) in enumerate(zip(head, base, strict=True)):
            self.compare(one, other, f"{where}[{i}]")

    def _compare_objects(self, head: Any, base: Any, where: str) -> None:
        if (names := _compared_fields(type(head))) is not None:  # each by its own kind, with tolerances
            one, other = ({n: getattr(value, n) for n in names if hasattr(value, n)} for value in (head, base))
            self._compare_attributes(head, one, other, where)
            return
        equal: object = None
        if isinstance(head, AbstractSet) or _defines(head, "__eq__"):
            with suppress(Exception):  # such as a field that is an array, which has no truth value
                equal = head == base
                if equal is False and head != head:  # noqa: PLR0124  # as NaN, which may still be stored alike
                    equal = None
            equal = equal if isinstance(equal, bool) else None  # an elementwise == returns no bool
        if equal is False and isinstance(head, AbstractSet):
            self._compare_sets(head, base, where)
            return
        if equal is None:
            with suppress(Exception):  # labelled arrays may store equal contents in several ways
                ask: Any = getattr(head, "identical", None) or head.equals
                equal = ask(base) is True or None
        if equal is None and (array := as_numpy(head)) is not None:
            self.compare(array, as_numpy(base), where)
            return
        # Objects that == calls different may hold the same: == may compare identity, or values that differ by rounding.
        if equal is None or (equal is False and getattr(head, "__dict__", None)):
            self._compare_states(head, base, where)
        elif equal is False:
            self._differ(head, base, where)

    def _compare_sets(self, head: AbstractSet[Any], base: AbstractSet[Any], where: str) -> None:
        """Compare sets that ``==`` calls different: their members may be NaN, or equal to nothing but themselves."""
        if self._alike(self._in_order(head), self._in_order(base)):
            return
        if len(head) == len(base) and not all(_defines(member, "__hash__") for member in head ^ base):
            self._cannot_tell(f"{where} has members that are equal to themselves alone")
        else:
            self._differ(head, base, where)

    def _alike(self, head: Sequence[Any], base: Sequence[Any]) -> bool:
        trial = _Comparison(self._places)
        trial.compare(head, base, "")
        return trial.found is None and trial.unknown is None

    def _in_order(self, members: Iterable[Any]) -> list[Any]:
        """Sort by what is shown of members, without places and addresses of one side's own."""
        return sorted(members, key=lambda member: ADDRESS.sub("", self._at_home(repr(member))))

    def _compare_states(self, head: Any, base: Any, where: str) -> None:
        """Compare what pickle would store of two objects: the attributes that both have, and the rest."""
        if isinstance(head, (type, FunctionType)) or isinstance(head.__reduce_ex__(4), str):  # stored by its name
            self._differ(head, base, where)
            return
        one, other = _Stored.of(head), _Stored.of(base)
        if one.make == other.make and one.attributes.keys() == other.attributes.keys():
            self.compare(one.parts, other.parts, f"{where}, as pickled, ")
        self._compare_attributes(head, one.attributes, other.attributes, where)

    def _compare_attributes(self, value: object, head: Mapping[str, Any], base: Mapping[str, Any], where: str) -> None:
        """Compare the attributes that both have; ``value``, the head's, may have more, and lack private ones."""
        for name in head:
            if name in base:
                self.compare(head[name], base[name], f"{where}.{name}")
        for name in (name for name in base if name not in head and not name.startswith("_")):
            if not hasattr(value, name):
                self._add(where, f" has no attribute {name}, which it has in the base")
        if head.keys() != base.keys():
            names = ", ".join(sorted(head.keys() ^ base.keys()))
            self._cannot_tell(f"{where} stores the attributes {_short(names)} on one side alone")

    def _assert(self, check: Callable[[], object], where: str) -> None:
        """Run an assertion of a library, whose message says where two values differ."""
        try:
            check()
        except AssertionError as error:
            self._add(where, f": {' '.join(readable(str(error)).split())}")

    def _at_home(self, text: Any) -> Any:
        """Return a text, or a path as text, with paths that one side has for itself as what they count as."""
        if isinstance(text, PurePath):
            text = str(text)
        for own, common in self._places.items():
            text = text.replace(own.encode(), common.encode()) if isinstance(text, bytes) else text.replace(own, common)
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
        named = [part for part in (state if _has_slots(state) else (state,)) if isinstance(part, dict)]
        attributes = {str(name): held for part in named for name, held in part.items()}
        others = [] if named else [state]
        return cls(
            make, attributes, [arguments, *others, *(None if part is None else list(part) for part in items[:2])]
        )


def _has_slots(state: object) -> bool:
    """Whether a state is a pair: the attributes in ``__dict__``, and those in slots."""
    return isinstance(state, tuple) and len(state) == 2 and all(isinstance(part, dict | None) for part in state)


def _kind(value: object) -> tuple[str, str]:
    """Return the name of a type and of its package, within which a type may move."""
    return type(value).__module__.partition(".")[0], type(value).__qualname__


def _defines(value: object, method: str) -> bool:
    """Whether the class of a value has a method of its own in place of ``object``'s."""
    return getattr(type(value), method) is not getattr(object, method)


def _compared_fields(kind: type) -> list[str] | None:
    """Return the fields that ``==`` of a dataclass, or of a class by attrs, compares; None if it compares otherwise."""
    if not getattr(getattr(kind.__eq__, "__code__", None), "co_filename", "").startswith("<"):  # it was not generated
        return None
    fields = [one.name for one in getattr(kind, "__dataclass_fields__", {}).values() if one.compare]
    return fields or [one.name for one in getattr(kind, "__attrs_attrs__", ()) if one.eq] or None


def _attributes(value: object) -> dict[str, Any]:
    """Return what an instance of a container's or an array's subclass holds besides; slots of Python's are caches."""
    if type(value).__module__.partition(".")[0] in ("builtins", "numpy", "torch"):
        return {}
    own = [kind for kind in type(value).__mro__ if kind.__module__.partition(".")[0] not in sys.stdlib_module_names]
    slots = [kind.__dict__.get("__slots__", ()) for kind in own]
    names = [name for some in slots for name in ((some,) if isinstance(some, str) else some)]
    return {name: getattr(value, name) for name in names if hasattr(value, name)} | getattr(value, "__dict__", {})


def _where_they_differ(one: str, other: str) -> tuple[str, str]:
    """Cut two texts to what surrounds the first character that differs."""
    same = next((i for i, (here, there) in enumerate(zip(one, other, strict=False)) if here != there), 0)
    start = max(0, same - LONGEST // 4) if max(len(one), len(other)) > LONGEST else 0
    before = "…" if start else ""
    return before + _short(one[start:]), before + _short(other[start:])


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
