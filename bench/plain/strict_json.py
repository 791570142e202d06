"""JSON that every parser reads: JavaScript's and Go's stop at ``Infinity`` and ``NaN``, which Python writes."""

import json
from math import isfinite
from typing import Any


def strict(value: Any) -> Any:
    """Return the value with null in the place of every number that JSON has no word for."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, list | tuple) else value


def dumps(value: Any, **options: Any) -> str:
    """Write a value as JSON; ``options`` are those of ``json.dumps``."""
    return json.dumps(strict(value), allow_nan=False, **options) + "\n"
