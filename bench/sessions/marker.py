"""``@pytest.mark.gate(...)``: what a single test asks of the gate."""

import pytest

from ..plain.arguments import PERCENT
from ..plain.errors import CannotDo
from .meeting import Own
from .reference import Reference

MARKER = "gate(threshold=None, compare=True, reference=None): what the gate holds this test to"
_NAMES = {"threshold", "compare", "reference"}


def own(item: pytest.Item) -> tuple[Own, Reference | None]:
    """Read what a test asks for itself; the marker that is nearest to it wins, argument by argument.

    Raises:
        CannotDo: an argument that there is not, or a value that makes no sense.

    """
    given: dict[str, object] = {}
    for mark in reversed(list(item.iter_markers("gate"))):
        if mark.args or mark.kwargs.keys() - _NAMES:
            asked = [*map(repr, mark.args), *(f"{name}={value!r}" for name, value in mark.kwargs.items())]
            raise CannotDo(
                f"@pytest.mark.gate({', '.join(asked)}): give threshold=, compare= and reference= alone, by name"
            )
        given |= mark.kwargs
    threshold, compare = given.get("threshold"), given.get("compare", True)
    if not isinstance(compare, bool):
        raise CannotDo(f"@pytest.mark.gate(compare={compare!r}): give True or False")
    share = None if threshold is None else PERCENT.read("@pytest.mark.gate(threshold=...)", str(threshold))
    reference = given.get("reference")
    if reference is not None and not callable(reference):
        raise CannotDo(f"@pytest.mark.gate(reference={reference!r}): give a function that returns what the call should")
    return Own(share, compare and reference is None), reference
