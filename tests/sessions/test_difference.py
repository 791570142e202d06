"""How two results of a benchmark differ."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch

from bench.sessions.difference import Difference, between


@dataclass
class Point:
    x: float


class Plain:
    def __init__(self, x: int) -> None:
        self.x = x


class Strange:
    def __eq__(self, other: object) -> bool:
        raise ValueError("no")

    __hash__ = None  # type: ignore[assignment]  # as a class with == has it


Pair = namedtuple("Pair", "a b")  # noqa: PYI024  # as people write it
NAN = float("nan")


@pytest.mark.parametrize(
    ("head", "base"),
    [
        (1, 1),
        (None, None),
        ("text", "text"),
        (b"bytes", b"bytes"),
        (NAN, NAN),
        ([1.0, NAN], [1.0, NAN]),
        ({"a": [1, (2, 3)]}, {"a": [1, (2, 3)]}),
        ({1, 2}, {2, 1}),
        (range(3), range(3)),
        (Pair(1, 2), Pair(1, 2)),
        (Point(1.0), Point(1.0)),
        (Plain(1), Plain(1)),
        (Decimal(1), Decimal("1.0")),
        (OrderedDict(a=1), OrderedDict(a=1)),
        (np.array([1.0, NAN]), np.array([1.0, NAN])),
        (np.array([1.0]), np.array([1.0 + 1e-9])),
        (np.float32(1.0), np.float32(1.0 + 1e-6)),
        (np.array(["a"]), np.array(["a"])),
        (torch.tensor([1.0, NAN]), torch.tensor([1.0 + 1e-6, NAN])),
        (torch.ones(2, 3).T, torch.ones(3, 2)),
        ([torch.ones(2)], [torch.ones(2)]),
    ],
)
def test_results_that_are_the_same(head: object, base: object) -> None:
    assert between(head, base) == Difference()


@pytest.mark.parametrize(
    ("head", "base", "found"),
    [
        (1, 2, "the result is 1, and 2 in the base"),
        (1, 1.0, "the result is of type int, and float in the base"),
        (1.0, 1.0 + 1e-9, "the result is 1.0, and 1.000000001 in the base"),
        (NAN, 1.0, "the result is nan, and 1.0 in the base"),
        ("a" * 200, "b", f"the result is '{'a' * 79}…, and 'b' in the base"),
        ([1, 2], [1], "the result has 2 items, and 1 in the base"),
        ([1, [2, 3]], [1, [2, 4]], "the result[1][1] is 3, and 4 in the base"),
        ({"a": 1}, {"b": 1}, "the result has other keys than in the base: 'a', 'b' on one side alone"),
        ({"a": Point(1.0)}, {"a": Point(2.0)}, "the result['a'] is Point(x=1.0), and Point(x=2.0) in the base"),
        ({1}, {2}, "the result is {1}, and {2} in the base"),
        (np.zeros(2), np.zeros(3), "the result: shape (2,), and (3,) in the base"),
        (np.zeros(2), np.zeros(2, np.float32), "the result: dtype float64, and float32 in the base"),
    ],
)
def test_where_results_differ_is_said(head: object, base: object, found: str) -> None:
    assert between(head, base) == Difference(found=found)


@pytest.mark.parametrize(
    ("make", "off"),
    [
        (lambda x: np.array([x]), 1e-6),
        (lambda x: np.array([x], np.complex64), 1e-4),
        (lambda x: torch.tensor([x]), 1e-4),
        (lambda x: torch.tensor([x], dtype=torch.bfloat16), 0.1),
        (lambda x: np.array([x > 1.0]), 0.1),
    ],
)
def test_arrays_beyond_the_tolerance_of_their_dtype_differ(make: Callable[[float], Any], off: float) -> None:
    found = between(make(1.0 + off), make(1.0)).found
    assert found is not None
    assert found.startswith("the result: ")
    assert "\n" not in found


@pytest.mark.parametrize(
    ("head", "base", "unknown"),
    [
        (Plain(1), Plain(2), "the result is of type Plain, which defines no equality"),
        (Strange(), Strange(), "the result cannot be compared (ValueError: no)"),
        ([1, Strange()], [1, Strange()], "the result[1] cannot be compared (ValueError: no)"),
    ],
)
def test_what_cannot_be_compared_is_said(head: object, base: object, unknown: str) -> None:
    assert between(head, base) == Difference(unknown=unknown)


def test_a_difference_is_found_behind_what_cannot_be_compared() -> None:
    assert between([Plain(1), 1], [Plain(2), 2]).found == "the result[1] is 1, and 2 in the base"


class Measured:
    """Compares item by item, as quantities of NumPy arrays do."""

    def __init__(self, *values: float) -> None:
        self.values = np.array(values)

    def __eq__(self, other: object) -> Any:
        return self.values == getattr(other, "values", None)

    __hash__ = None  # type: ignore[assignment]  # it has no single equality


def test_a_class_that_compares_item_by_item_is_held_to_the_tolerance_of_what_it_stores() -> None:
    assert between(Measured(1.0, 2.0), Measured(1.0, 2.0)) == Difference()
    assert between(Measured(1.0, 2.0), Measured(1.0, 2.0 + 1e-9)) == Difference()
    found = between(Measured(1.0, 2.0), Measured(1.0, 2.1)).found
    assert found is not None
    assert found.startswith("what the result holds[1]['values']: Not equal to tolerance rtol=1e-07")


def test_long_texts_are_cut_to_where_they_differ() -> None:
    found = between("x" * 200 + "1", "x" * 200 + "2").found
    assert found == f"the result is …{'x' * 20}1', and …{'x' * 20}2' in the base"
