"""JSON values checked against Python types: nothing is guessed, converted or left over."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from math import isfinite
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

LARGEST_INT = 2**63


class Unfit(Exception):
    """The value is not of the type; the message says where, what was wanted and what was seen."""


def typed(kind: Any, value: object, where: str) -> Any:
    """Return the value as ``kind``: a scalar, a string enum, a union, ``Mapping[str, X]``, a tuple or a dataclass.

    ``where`` names the value in messages, which may end up in a log: keys and values are shown in them in printable
    ASCII, shortened. Numbers are finite, a bool is no number, and a dataclass is given by exactly its fields.

    Raises:
        Unfit: the value is something else.

    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return _one_of(arguments, value, where)
    if origin is Mapping:
        items = _of(dict, value, where).items()
        return {key: typed(arguments[1], item, f"{where}[{_shown(key)}]") for key, item in items}
    if origin is tuple:
        items = _of(list, value, where)
        kinds = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(items):
            raise Unfit(f"{where} should have {len(kinds)} entries and has {len(items)}")
        return tuple(typed(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(zip(kinds, items, strict=True)))
    if is_dataclass(kind):
        return _dataclass(kind, _of(dict, value, where), where)
    if issubclass(kind, Enum):
        if value not in [member.value for member in kind]:
            raise Unfit(f"{where} should be one of {', '.join(kind)} and is {_shown(value)}")
        return kind(value)
    if kind is float:
        return _number(value, where)
    if kind is int and abs(_of(int, value, where)) >= LARGEST_INT:
        raise Unfit(f"{where} is too large a number")
    return _of(kind, value, where)


def _one_of(kinds: tuple[Any, ...], value: object, where: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    rest = [kind for kind in kinds if kind is not NoneType]
    exact = [kind for kind in rest if kind is type(value)]  # an int stays an int where a float would do too
    if exact or len(rest) == 1:
        return typed(exact[0] if exact else rest[0], value, where)
    raise Unfit(f"{where} should be one of {', '.join(kind.__name__ for kind in kinds)} and is {_shown(value)}")


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


def _dataclass(kind: Any, value: dict[str, object], where: str) -> Any:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind) if field.init]
    if missing := [name for name in names if name not in value]:
        raise Unfit(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(set(value) - set(names)):
        raise Unfit(f"{where} has the unknown {_shown(unknown[0])}")
    return kind(**{name: typed(hints[name], value[name], f"{where}.{name}") for name in names})


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
