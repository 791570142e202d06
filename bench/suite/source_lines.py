"""Finds the file and line of each kernel and module, for annotations. Pure."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..plain.evidence import Place


def places(subjects: Mapping[str, Any], root: Path) -> dict[str, Place]:
    """Find each subject's place, by name; one from outside the root or without source has none."""
    found = {name: _place(subject, root.resolve()) for name, subject in subjects.items()}
    return {name: place for name, place in found.items() if place is not None}


def _place(subject: Any, root: Path) -> Place | None:
    written = inspect.unwrap(getattr(subject, "function", subject))
    try:
        file = Path(inspect.getsourcefile(written) or "").resolve()
        _, line = inspect.getsourcelines(written)
    except (TypeError, OSError):  # built in, or not from a file
        return None
    return Place(file.relative_to(root).as_posix(), line) if file.is_relative_to(root) else None
