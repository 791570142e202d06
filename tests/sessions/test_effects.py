"""What the calls of a test leave: what is kept of it, and what the two sides make of it."""

import copy
import pickle
import sys
from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.sessions import effects
from bench.sessions.difference import Difference
from bench.sessions.effects import Effects, differences

Call = Callable[..., Any]


class Closed(dict[str, int]):
    """Lets nobody set an item, so that pickle cannot make it again."""

    def __setitem__(self, key: str, value: int) -> None:
        raise ValueError


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: object) -> None:
        self.x = x


def left(call: Call, *args: Any, **kwargs: Any) -> Effects:
    """Call twice, as a test's fixture does."""
    found = Effects(call, args, kwargs, __name__)
    result = call(*args, **kwargs)
    found.first(result)
    found.later(result, call(*args, **kwargs))
    return found


def compared(head: Effects, base: Effects, tmp_path: Path) -> dict[str, Difference]:
    files = tmp_path / "head", tmp_path / "base"
    for file, side in zip(files, (head, base), strict=True):
        file.write_bytes(pickle.dumps(side.parts))
    return differences(*files, {})


def add(values: Any, more: int = 1) -> None:
    for i in range(len(values)):
        values[i] += more


def write_again(texts: list[str]) -> None:
    texts[:] = ["".join(text) for text in texts]  # equal, and other objects


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: [1, 2], "[0] is 5, and 2 in the base"),
        (lambda: {0: 1, 1: 2}, "[0] is 5, and 2 in the base"),
        (lambda: bytearray(b"12"), " is bytearray(b'56'), and bytearray(b'23') in the base"),
        (lambda: array("i", [1, 2]), "[0] is 5, and 2 in the base"),
        (lambda: np.array([1, 2]), ": Arrays are not equal"),
        (lambda: torch.tensor([1, 2]), ": Tensor-likes are not equal!"),
    ],
)
def test_arguments_that_the_call_changes_are_compared(make: Call, shown: str, tmp_path: Path) -> None:
    def call(values: Any) -> None:
        add(values)

    def other(values: Any) -> None:
        add(values, 4)

    assert compared(left(call, make()), left(call, make()), tmp_path)["after the call, argument 0"] == Difference()
    found = compared(left(other, values=make()), left(call, values=make()), tmp_path)
    text = found["after the call, argument 'values'"].found or ""
    assert text.startswith(f"after the call, argument 'values'{shown}")


def test_an_argument_that_one_side_alone_changes_is_found(tmp_path: Path) -> None:
    changing, reading = left(add, [1]), left(len, [1])
    name = "after the call, argument 0"
    assert compared(changing, reading, tmp_path)[name].found == f"{name} is changed, and not in the base"
    assert compared(reading, changing, tmp_path)[name].found == f"{name} is changed in the base alone"


class Layer(torch.nn.Module):
    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("seen", torch.zeros(1))

    def learn(self, rate: float) -> None:
        backward(self.weight, rate)

    def forward(self, rate: float) -> None:
        self.seen += rate


class Benchmarks:
    def __init__(self) -> None:
        self.layer = Layer()

    def step(self, rate: float) -> None:
        self.layer.learn(rate)


def backward(x: torch.Tensor, rate: float) -> None:
    (rate * x).sum().backward()


COUNTED = [0.0]


def count(rate: float) -> None:
    COUNTED[0] = rate


def of_file(rate: float) -> Call:
    def call() -> None:
        COUNTED[0] = rate

    COUNTED[0] = 0.0
    return call


def of_test(value: Any, change: Callable[[Any, float], object]) -> Callable[[float], Call]:
    def make(rate: float) -> Call:
        x = copy.deepcopy(value)

        def call() -> None:
            change(x, rate)

        return call

    return make


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (of_test(torch.ones(2, requires_grad=True), backward), "the gradient of variable 'x'"),
        (of_test(Layer(), Layer.learn), "variable 'x'['weight.grad']"),
        (of_test(Layer(), lambda x, rate: x.weight.data.mul_(rate)), "variable 'x'['weight']"),
        (of_test(torch.ones(2), lambda x, rate: x.fill_(rate)), "variable 'x'"),
        (of_test(np.ones(2), lambda x, rate: x.fill(rate)), "variable 'x'"),
        (of_test([1.0], lambda x, rate: x.append(rate)), "variable 'x'[1]"),
        (of_file, "variable 'COUNTED'[0]"),
        (lambda rate: partial(Layer().learn, rate), "variable 'self'['weight.grad']"),
        (lambda rate: partial(Benchmarks().step, rate), "variable 'self.layer'['weight.grad']"),
        (lambda rate: partial(Layer(), rate), "variable 'self'['seen']"),
        (lambda rate: partial(Layer.learn, Layer(), rate), "argument 0['weight.grad']"),
    ],
)  # fmt: skip
def test_gradients_modules_and_variables_that_the_call_changes_are_compared(
    make: Callable[[float], Call], shown: str, tmp_path: Path
) -> None:
    name = f"after the call, {shown.partition('[')[0]}"
    assert compared(left(make(4.0)), left(make(4.0)), tmp_path)[name] == Difference()
    found = compared(left(make(5.0)), left(make(4.0)), tmp_path)[name].found
    assert found is not None
    assert found.startswith(f"after the call, {shown}")


def test_variables_of_other_modules_are_their_own_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count, "__module__", "a.package")
    assert left(count, 3.0).parts.keys() == {effects.RESULT, effects.LATER}


def test_what_is_equal_or_no_data_or_too_large_is_no_changed_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    assert left(write_again, ["ab"] * 2).parts.keys() == {effects.RESULT, effects.LATER}
    assert left(lambda one: setattr(one, "x", 2), Slotted(1)).parts.keys() == {effects.RESULT, effects.LATER}
    monkeypatch.setattr(effects, "LARGEST", 100)
    for large in ([1] * 200, np.zeros(200), torch.zeros(200)):
        assert left(add, large).parts.keys() == {effects.RESULT, effects.LATER}
    assert left(lambda: bytes(200)).parts.keys() == {effects.RESULT}


class Watched(np.ndarray):
    stored = 0

    def __reduce_ex__(self, protocol: Any) -> Any:
        Watched.stored += 1
        return super().__reduce_ex__(protocol)


def test_a_large_array_is_not_copied_to_find_that_it_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "LARGEST", 100)
    left(add, np.zeros(200).view(Watched))
    assert not Watched.stored


class Own(torch.Tensor):
    """A tensor of a class of its own."""


@pytest.mark.parametrize("make", [torch.detach, torch.nn.Parameter, lambda row: row.as_subclass(Own).requires_grad_()])
def test_views_are_stored_without_the_rest_of_what_they_view(make: Call, tmp_path: Path) -> None:
    def rows(last: float, part: Call = torch.detach) -> Effects:
        whole = torch.ones(50, 2000)
        whole[-1, 1] = last
        return left(lambda: [make(part(row[:2])) for row in whole])

    head, copied = rows(2.0), rows(2.0, torch.clone)
    assert len(head.parts[effects.RESULT]) < 50 * 2000
    assert compared(head, copied, tmp_path)[effects.RESULT] == Difference()
    found = compared(head, rows(1.0), tmp_path)[effects.RESULT].found or ""
    assert found.startswith("the result[49]: Tensor-likes are not close")


def test_a_result_that_a_later_call_changes_is_found(tmp_path: Path) -> None:
    buffer = [0]

    def shared() -> list[int]:
        buffer[0] += 1
        return buffer

    def fresh() -> list[int]:
        return list(shared())

    head, base = left(shared), left(fresh)
    found = compared(head, base, tmp_path)[effects.OVERWRITTEN].found
    assert found == f"{effects.OVERWRITTEN} is changed, and not in the base"


def test_what_cannot_be_pickled_is_said_and_nothing_is_kept_of_it() -> None:
    found = left(lambda: (i for i in range(3)))
    assert found.unsaved == "a generator cannot be pickled (cannot pickle 'generator' object)"
    assert not found.parts


@pytest.mark.parametrize(
    ("head", "base", "found"),
    [
        (Closed(a=1), Closed(a=1), None),
        (Closed(a=1), Closed(a=2), "the result.items[0][1] is 1, and 2 in the base"),
        (
            [Slotted(Closed(a=1))],
            [Slotted(Closed(a=2))],
            "the result[0].state[1]['x'].items[0][1] is 1, and 2 in the base",
        ),
        ([Closed, np.ones(2), Closed()], [Slotted, np.ones(2), Closed()], "the result[0] is "),
    ],
)
def test_results_whose_class_cannot_make_them_again_are_compared_by_what_is_stored(
    head: object, base: object, found: str | None, tmp_path: Path
) -> None:
    text = compared(left(lambda: head), left(lambda: base), tmp_path)[effects.RESULT].found
    assert text == found or (text or "").startswith(found or "no such text")


class Unreadable:
    """Is stored as what nobody can make again."""

    def __init__(self, size: str) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        return int, (self.size,)


def test_results_that_nobody_can_read_are_the_same_if_they_are_stored_alike(tmp_path: Path) -> None:
    head, base, alike = (left(lambda size=size: Unreadable(size)) for size in ("one", "two", "one"))
    assert compared(head, alike, tmp_path)[effects.RESULT] == Difference()
    unknown = compared(head, base, tmp_path)[effects.RESULT].unknown or ""
    assert unknown.startswith("the result cannot be read (ValueError: invalid literal for int()")


def test_results_of_a_class_that_the_head_has_lost_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = left(lambda: Slotted(1))
    monkeypatch.delattr(sys.modules[__name__], "Slotted")
    assert compared(stored, stored, tmp_path)[effects.RESULT] == Difference()
