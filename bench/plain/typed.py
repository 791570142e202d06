"""Checks JSON values against Python types: nothing is guessed, converted or ignored."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

LARGEST_INT = 2**63

Readers = Mapping[type, Callable[[object, str], Any]]  # by the type that they return: each takes a value and its place


class Unfit(Exception):
    """A value is not of its type; the message says where it is, what was wanted and what was seen."""


def typed(kind: Any, value: object, where: str, readers: Readers | None = None) -> Any:
    """Return the value as ``kind``: a scalar, a string enum, a union, ``Mapping[str, X]``, a tuple or a dataclass.

    A dataclass is given by its fields, and those with a default may be absent; ``readers`` read classes that are given
    in another way. A dict of kinds is an object with these keys.

    ``where`` names the value in messages, which may end up in a log: keys and values are shown in them in printable
    ASCII, shortened. Numbers are finite, and a bool is no number.

    Raises:
        Unfit: the value is something else, or has a key too many or too few.

    """
    readers = readers or {}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return _one_of(arguments, value, where, readers)
    if origin is Mapping:
        items = _of(dict, value, where).items()
        return {key: typed(arguments[1], item, f"{where}[{_shown(key)}]", readers) for key, item in items}
    if origin is tuple:
        return _entries(arguments, value, where, readers)
    if isinstance(kind, dict):
        return _object(kind, value, where, readers)
    if kind in readers:
        return readers[kind](value, where)
    if isinstance(kind, type) and is_dataclass(kind):
        return kind(**_object(_fields_of(kind), value, where, readers))
    return _scalar(kind, value, where)


def fields_and_more(
    kind: Any,
    value: object,
    where: str,
    more: Mapping[str, Any],
    *,
    without: Collection[str] = (),
    readers: Readers | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read an object that has the fields of a dataclass, except some, and ``more`` keys; returns both parts.

    Raises:
        Unfit: as ``typed``.

    """
    fields = {name: type_ for name, type_ in _fields_of(kind).items() if name not in without}
    found = typed({**fields, **more}, value, where, readers)
    return {name: found.pop(name) for name in fields if name in found}, found


@cache
def _fields_of(kind: Any) -> Mapping[str, Any]:
    """Return the types of a dataclass's fields by name, ``NotRequired`` where there is a default."""
    hints = get_type_hints(kind)
    return {
        field.name: hints[field.name]
        if field.default is MISSING and field.default_factory is MISSING
        else NotRequired[hints[field.name]]
        for field in fields(kind)
    }


def _one_of(kinds: tuple[Any, ...], value: object, where: str, readers: Readers) -> Any:
    if value is None and NoneType in kinds:
        return None
    rest = [kind for kind in kinds if kind is not NoneType]
    exact = [kind for kind in rest if kind is type(value)]  # where a union has both, an int stays an int
    if exact or len(rest) == 1:
        return typed(exact[0] if exact else rest[0], value, where, readers)
    raise Unfit(f"{where} should be one of {', '.join(kind.__name__ for kind in kinds)} and is {_shown(value)}")


def _entries(kinds: tuple[Any, ...], value: object, where: str, readers: Readers) -> tuple[Any, ...]:
    items = _of(list, value, where)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(items)
    if len(kinds) != len(items):
        raise Unfit(f"{where} should have {len(kinds)} entries and has {len(items)}")
    return tuple(typed(kinds[i], item, f"{where}[{i}]", readers) for i, item in enumerate(items))


def _object(kinds: Mapping[str, Any], value: object, where: str, readers: Readers) -> dict[str, Any]:
    given = _of(dict, value, where)
    required = {name for name, kind in kinds.items() if get_origin(kind) is not NotRequired}
    if missing := [name for name in kinds if name in required and name not in given]:
        raise Unfit(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(set(given) - set(kinds)):
        raise Unfit(f"{where} has the unknown {_shown(unknown[0])}")
    return {
        name: typed(kind if name in required else get_args(kind)[0], given[name], f"{where}.{name}", readers)
        for name, kind in kinds.items()
        if name in given
    }


def _scalar(kind: Any, value: object, where: str) -> Any:
    if issubclass(kind, Enum):
        if value not in [member.value for member in kind]:
            raise Unfit(f"{where} should be one of {', '.join(kind)} and is {_shown(value)}")
        return kind(value)
    if kind is float:
        return _number(value, where)
    if kind is int and abs(_of(int, value, where)) >= LARGEST_INT:
        raise Unfit(f"{where} is too large a number")
    return _of(kind, value, where)


def _of(kind: type, value: object, where: str) -> Any:
    if type(value) is not kind:
        raise Unfit(f"{where} should be of type {kind.__name__} and is {_shown(value)}")
    return value


def _number(value: object, where: str) -> float:
    if type(value) not in (int, float):
        raise Unfit(f"{where} should be a number and is {_shown(value)}")
    try:
        number = float(value)  # type: ignore[arg-type]  # it is one of the two
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise Unfit(f"{where} is not a finite number")
    return number


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
