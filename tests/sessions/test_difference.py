"""How two results of a benchmark differ.

Over 300 lines: a third of them are the classes whose instances are compared.
"""

from array import array
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
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


class Wider:
    def __init__(self, x: int) -> None:
        self.x, self.y = x, x


Wider.__qualname__ = "Plain"  # as of a later version


class Closed:
    def __eq__(self, other: object) -> bool:
        raise ValueError("no")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("no")

    __hash__ = None  # type: ignore[assignment]  # as a class with == has it


@dataclass
class Held:
    values: Any


@dataclass
class Timed:
    x: float
    taken: int = field(compare=False)


class Ring:
    def __init__(self, x: int) -> None:
        self.x, self.other = x, self


class Quantity(np.ndarray):
    """An array with a unit, as packages of units have it."""


class Counted(list[int]):
    def __init__(self, total: int) -> None:
        self.total = total


def quantity(value: float, unit: str) -> Quantity:
    made = np.array([value]).view(Quantity)
    made.unit = unit  # type: ignore[attr-defined]
    return made


def objects(*values: object) -> Any:
    made = np.empty(len(values), object)
    made[:] = values
    return made


class Joined:
    """Compares what both have, as labelled arrays do."""

    __slots__ = ("label",)

    def __init__(self, label: int) -> None:
        self.label = label

    def __eq__(self, other: object) -> Any:
        return np.array([])

    __hash__ = None  # type: ignore[assignment]  # it has no single equality


class Tagged(dict[str, int]):
    """A mapping with a slot."""

    __slots__ = ("tag",)

    def __init__(self, tag: str) -> None:
        self.tag = tag


class Counting:
    """Stores a pair that is no pair of attributes and slots."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Counting, (0,), ({"a": 1}, [self.count])


@dataclass
class Lazy:
    x: int

    @cached_property
    def twice(self) -> int:
        return 2 * self.x


class Square:
    def __init__(self, x: int) -> None:
        self.x = x

    @cached_property
    def twice(self) -> int:
        return 2 * self.x


class Shown:
    """What both have is all that ``equals`` asks."""

    def equals(self, other: object) -> bool:
        return isinstance(other, Shown)

    def identical(self, other: object) -> bool:
        return isinstance(other, Shown) and vars(self) == vars(other)


def shown(name: str) -> Shown:
    made = Shown()
    made.name = name  # type: ignore[attr-defined]  # as a label
    return made


def computed(value: Any) -> Any:
    assert value.twice
    return value


Pair = namedtuple("Pair", "a b")  # noqa: PYI024  # as people write it
NAN = float("nan")


@pytest.mark.parametrize(
    ("head", "base"),
    [
        (1, 1),
        ([1.0, NAN], [1.0, float("nan")]),
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
        (complex(NAN, 1), complex(NAN, 1)),
        (np.array([(1, NAN)], "i4,f8"), np.array([(1, NAN)], "i4,f8")),
        (objects(1, NAN), objects(1, NAN)),
        (np.ma.array([1.0, 2.0], mask=[False, True]), np.ma.array([1.0, 3.0], mask=[False, True])),
        (Held(np.array([1.0])), Held(np.array([1.0 + 1e-9]))),
        (Ring(1), Ring(1)),
        (Timed(1.0, 2), Timed(1.0, 3)),
        ([(range(2), 1), Timed], [(range(2), 1), Timed]),
        (quantity(1.0, "m"), quantity(1.0, "m")),
        ({Plain(1): 1, Plain(2): 2}, {Plain(1): 1, Plain(2): 2}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Lazy(1), computed(Lazy(1))),
        (shown("a"), shown("a")),
        ({float("nan"), 1.0}, {float("nan"), 1.0}),
        ({(1, float("nan"))}, {(1, float("nan"))}),
        ({float("nan"): 1, "a": 2}, {"a": 2, float("nan"): 1}),
        ({Plain(1)}, {Plain(1)}),
        ([Decimal("NaN"), Decimal("sNaN")], [Decimal("NaN"), Decimal("sNaN")]),
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
        ({"a": Point(1.0)}, {"a": Point(2.0)}, "the result['a'].x is 1.0, and 2.0 in the base"),
        ({1}, {2}, "the result is {1}, and {2} in the base"),
        (np.zeros(2), np.zeros(3), "the result: shape (2,), and (3,) in the base"),
        (np.zeros(2), np.zeros(2, np.float32), "the result: dtype float64, and float32 in the base"),
        ([10**5000], [10**5000 + 1], "the result[0] is a different int in the base"),
        (complex(NAN, 1), complex(NAN, 2), "the result is (nan+1j), and (nan+2j) in the base"),
        (objects(1, NAN), objects(2, NAN), "the result[0] is 1, and 2 in the base"),
        (Plain(1), Plain(2), "the result.x is 1, and 2 in the base"),
        (Ring(1), Ring(2), "the result.x is 1, and 2 in the base"),
        (Joined(1), Joined(2), "the result.label is 1, and 2 in the base"),
        (Counted(1), Counted(2), "the result.total is 1, and 2 in the base"),
        (quantity(1.0, "m"), quantity(1.0, "s"), "the result.unit is 'm', and 's' in the base"),
        (
            np.array([1.0]).view(Quantity),
            quantity(1.0, "m"),
            "the result has no attribute unit, which it has in the base",
        ),
        (Plain(1), Wider(1), "the result has no attribute y, which it has in the base"),
        (Plain, Point, f"the result is {Plain}, and {Point} in the base"),
        ({"h": quantity}, {"h": objects}, f"the result['h'] is {quantity}, and {objects} in the base"),
        (torch.float32, torch.float64, "the result is torch.float32, and torch.float64 in the base"),
        (np.False_, True, "the result is of type numpy.bool, and builtins.bool in the base"),
        (False, np.True_, "the result is of type builtins.bool, and numpy.bool in the base"),
        (Tagged("a"), Tagged("b"), "the result.tag is 'a', and 'b' in the base"),
        (Counting(1), Counting(2), "the result, as pickled, [1][1][0] is 1, and 2 in the base"),
        ({Plain(1): 1}, {Plain(1): 2}, "the result.items()[0][1] is 1, and 2 in the base"),
        ({Plain(1): 1}, {Plain(2): 1}, "the result.items()[0][0].x is 1, and 2 in the base"),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), "the result has its keys in another order than in the base"),
        (array("f", [1]), array("d", [1]), "the result has items of type f, and d in the base"),
        (Point(1), Point(1.0), "the result.x is of type int, and float in the base"),
        (torch.ones(1, requires_grad=True), torch.ones(1), "the result: requires_grad True, and False in the base"),
        (shown("a"), shown("b"), "the result.name is 'a', and 'b' in the base"),
        ({float("nan"): 1}, {float("nan"): 2}, "the result[nan] is 1, and 2 in the base"),
        ({NAN}, {1.0}, "the result is {nan}, and {1.0} in the base"),
        (Decimal("NaN"), Decimal("-NaN"), "the result, as pickled, [0][0] is 'NaN', and '-NaN' in the base"),
    ],
)
def test_where_results_differ_is_said(head: object, base: object, found: str) -> None:
    assert between(head, base).found == found


@pytest.mark.parametrize(
    ("head", "base", "unknown"),
    [
        (Wider(1), Plain(1), "the result stores the attributes y on one side alone"),
        (Closed(), Closed(), "the result cannot be compared (TypeError: no)"),
        (Square(1), computed(Square(1)), "the result stores the attributes twice on one side alone"),
        ([1, Closed()], [1, Closed()], "the result[1] cannot be compared (TypeError: no)"),
        ({Plain(1), Plain(2)}, {Plain(1), Plain(3)}, "the result has members that are equal to themselves alone"),
    ],
)
def test_what_cannot_be_compared_is_said(head: object, base: object, unknown: str) -> None:
    assert between(head, base) == Difference(unknown=unknown)


def test_a_difference_is_found_behind_what_cannot_be_compared() -> None:
    assert between([Closed(), 1], [Closed(), 2]).found == "the result[1] is 1, and 2 in the base"


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
    found = between(Measured(1.0, 2.0), Measured(1.0, 2.1)).found or ""
    assert found.startswith("the result.values: Not equal to tolerance rtol=1e-07")


def test_what_refers_to_itself_or_is_shared_often_is_compared_once() -> None:
    def tree(value: int) -> dict[str, Any]:
        root: dict[str, Any] = {"parent": None, "kids": []}
        root["kids"] += [{"parent": root, "name": i, "kids": []} for i in range(20)]
        root["kids"][-1]["name"] = value
        return root

    def shared(leaf: int) -> list[Any]:
        found: list[Any] = [leaf]
        for _ in range(40):
            found = [found, found]
        return found

    assert between(tree(1), tree(1)) == Difference()
    assert between(tree(1), tree(2)).found == "the result['kids'][19]['name'] is 1, and 2 in the base"
    assert between(shared(1), shared(1)) == Difference()
    assert between(shared(1), shared(2)).found


def test_objects_that_are_equal_to_themselves_alone_are_held_to_what_they_hold() -> None:
    assert between(SimpleNamespace(n=1, token=Plain(1)), SimpleNamespace(n=1, token=Plain(1))) == Difference()
    found = between(SimpleNamespace(n=1, token=Plain(1)), SimpleNamespace(n=2, token=Plain(1))).found
    assert found == "the result.n is 1, and 2 in the base"
    assert between(Plain(1), Wider(2)).found == "the result.x is 1, and 2 in the base"


def test_the_place_of_a_checkout_is_that_of_the_repository() -> None:
    places = {Path("/tmp/base"): Path("/home/me")}  # noqa: S108  # no file
    for head, base in (("/home/me/a.py", "/tmp/base/a.py"), (b"/home/me", b"/tmp/base")):  # noqa: S108
        assert between(head, base, places) == Difference()
    assert between([Path("/home/me/a.py")], [Path("/tmp/base/a.py")], places) == Difference()  # noqa: S108
    assert between({"/home/me/a.py", "b"}, {"/tmp/base/a.py", "b"}, places) == Difference()  # noqa: S108
    assert between({Path("/home/me"): 1, 2: 3}, {Path("/tmp/base"): 1, 2: 3}, places) == Difference()  # noqa: S108
    assert between({"/home/me": 1}, {"/tmp/base": 2}, places).found  # noqa: S108
    assert between("/home/me/a.py", "/tmp/base/b.py", places).found  # noqa: S108


def test_long_texts_are_cut_to_where_they_differ() -> None:
    found = between("x" * 200 + "1", "x" * 200 + "2").found
    assert found == f"the result is …{'x' * 20}1', and …{'x' * 20}2' in the base"
