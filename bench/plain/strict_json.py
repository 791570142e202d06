"""JSON that every parser reads in the same way: without ``Infinity`` and ``NaN``, and without a key twice."""

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from math import isfinite
from typing import Any, NoReturn


def strict(value: Any) -> Any:
    """Return a value as JSON has it: a dataclass by its fields, null in place of each number that JSON cannot write."""
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, list | tuple) else value


def dumps(value: Any, **options: Any) -> str:
    """Write a value as JSON; ``options`` are those of ``json.dumps``."""
    return json.dumps(strict(value), allow_nan=False, **options) + "\n"


def loads(text: str) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is none, or has what ``dumps`` does not write.
        RecursionError: it is nested too deeply.

    """
    return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_repeated_key)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _no_repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key is in an object twice")
    return document
