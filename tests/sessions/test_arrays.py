"""How arrays and data frames differ."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import ml_dtypes  # noqa: F401  # it gives NumPy bfloat16
import numpy as np
import pytest
import torch

from bench.sessions.difference import Difference, between


@pytest.mark.parametrize(
    ("make", "off"),
    [
        (lambda x: np.array([x]), 1e-6),
        (lambda x: np.array([x], np.complex64), 1e-4),
        (lambda x: np.array([x], "bfloat16"), 0.1),
        (lambda x: torch.tensor([x]), 1e-4),
        (lambda x: torch.tensor([x], dtype=torch.bfloat16), 0.1),
        (lambda x: np.array([x > 1.0]), 0.1),
        (lambda x: np.ma.array([x, 1.0], mask=[False, True]), 1e-6),
        (lambda x: np.ma.array([1.0], mask=[x > 1.0]), 1e-6),
    ],
)
def test_arrays_beyond_the_tolerance_of_their_dtype_differ(make: Callable[[float], Any], off: float) -> None:
    found = between(make(1.0 + off), make(1.0)).found or ""
    assert found.startswith("the result: ")
    assert "\n" not in found


def test_arrays_of_bfloat16_are_the_same_within_its_rounding() -> None:
    assert between(np.array([1.0 + 2**-7], "bfloat16"), np.array([1.0], "bfloat16")) == Difference()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
def test_nested_tensors_are_compared_part_by_part() -> None:
    def nested(x: float) -> torch.Tensor:
        return torch.nested.nested_tensor([torch.ones(2), torch.tensor([x])], layout=torch.jagged)

    assert between(nested(1.0), nested(1.0)) == Difference()
    assert (between(nested(1.1), nested(1.0)).found or "").startswith("the result[1]: Tensor-likes are not close!")
    of_plain_type = torch.nested.nested_tensor([torch.ones(2)], layout=torch.strided)
    assert between(of_plain_type, torch.ones(1, 2)).found == "the result: is_nested True, and False in the base"


class Exchanged:
    """An array of another library, as JAX has them; its ``==`` is elementwise."""

    def __init__(self, *values: float, dtype: str = "float32") -> None:
        self.kept = np.array(values, dtype).tobytes()
        self.dtype = dtype

    def __eq__(self, other: object) -> Any:
        return np.asarray(self) == np.asarray(other)

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, dtype: object = None, copy: object = None) -> Any:
        if self.dtype == "int8":
            raise TypeError("a random key is no array")
        return np.frombuffer(self.kept, self.dtype)

    def __dlpack__(self) -> Any:
        raise NotImplementedError


def test_arrays_of_other_libraries_are_compared_by_the_tolerances_of_numpy_s() -> None:
    assert between(Exchanged(1.0 + 1e-6, np.nan), Exchanged(1.0, np.nan)) == Difference()
    found = between([Exchanged(1.0 + 1e-4, 2.0)], [Exchanged(1.0, 2.0)]).found or ""
    assert found.startswith("the result[0]: Not equal to tolerance rtol=1.3e-06")
    wider, keys = Exchanged(1.0, dtype="float64"), (Exchanged(1, dtype="int8"), Exchanged(2, dtype="int8"))
    assert between(Exchanged(1.0), wider).found == "the result: dtype float32, and float64 in the base"
    assert between(*keys).found == "the result.kept is b'\\x01', and b'\\x02' in the base"


class DataFrame:
    """A frame as packages of frames have them, whose contents may lie in several ways."""

    def __init__(self, *rows: int) -> None:
        self.rows = rows
        self.blocks = id(rows)  # equal rows may be stored in several ways

    def equals(self, other: object) -> bool:
        return isinstance(other, DataFrame)


def test_a_data_frame_is_held_to_what_the_assertion_of_its_package_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def assert_frame_equal(one: DataFrame, other: DataFrame) -> None:
        if one.rows != other.rows:
            raise AssertionError("rows are\n different")

    monkeypatch.setattr(DataFrame, "__module__", "frames.core")
    for name, value in {"frames": ModuleType("frames"), "frames.testing": ModuleType("testing")}.items():
        monkeypatch.setitem(sys.modules, name, value)
    assert between(DataFrame(1), DataFrame(2)) == Difference()  # without one, by equals
    monkeypatch.setattr(sys.modules["frames.testing"], "assert_frame_equal", assert_frame_equal, raising=False)
    assert between(DataFrame(1), DataFrame(1)) == Difference()
    assert between(DataFrame(*[1] * 9), DataFrame(*[1] * 9)) == Difference()
    assert between([DataFrame(1)], [DataFrame(2)]).found == "the result[0]: rows are different"
