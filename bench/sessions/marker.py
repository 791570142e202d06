"""``@pytest.mark.gate(...)``: what a single test asks of the gate."""

import pytest

from ..plain.arguments import PERCENT
from ..plain.errors import CannotDo
from .meeting import Own

MARKER = "gate(threshold=None, compare=True): what the gate holds this test to"


def own(item: pytest.Item) -> Own:
    """Read what a test asks for itself; the marker that is nearest to it wins, argument by argument.

    Raises:
        CannotDo: an argument that there is not, or a value that makes no sense.

    """
    given: dict[str, object] = {}
    for mark in reversed(list(item.iter_markers("gate"))):
        if mark.args or mark.kwargs.keys() - {"threshold", "compare"}:
            asked = [*map(repr, mark.args), *(f"{name}={value!r}" for name, value in mark.kwargs.items())]
            raise CannotDo(f"@pytest.mark.gate({', '.join(asked)}): give threshold= and compare= alone, by name")
        given |= mark.kwargs
    threshold, compare = given.get("threshold"), given.get("compare", True)
    if not isinstance(compare, bool):
        raise CannotDo(f"@pytest.mark.gate(compare={compare!r}): give True or False")
    share = None if threshold is None else PERCENT.read("@pytest.mark.gate(threshold=...)", str(threshold))
    return Own(share, compare)
