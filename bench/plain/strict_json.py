"""Writes JSON that every parser reads: Python writes ``Infinity`` and ``NaN``, which JavaScript and Go refuse."""

import json
from math import isfinite
from typing import Any


def strict(value: Any) -> Any:
    """Return the value with null in place of every number that JSON cannot write."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, list | tuple) else value


def dumps(value: Any, **options: Any) -> str:
    """Write a value as JSON; ``options`` are those of ``json.dumps``."""
    return json.dumps(strict(value), allow_nan=False, **options) + "\n"
