"""Compares arrays, tensors and data frames as their own libraries do, and single numbers."""

import cmath
import math
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

FRAMES = ("frame", "series", "index")  # endings of the names of types, for which packages have assert_*_equal


def is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    return (numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))) or _is_tensor(value)


def as_numpy(value: object) -> Any:
    """Return an array of another library, such as JAX, as one of NumPy; None if it is none."""
    numpy, kind = sys.modules.get("numpy"), type(value)
    if numpy is None or not (hasattr(kind, "__dlpack__") and hasattr(kind, "__array__")):
        return None
    try:
        return numpy.asarray(value)
    except Exception:  # noqa: BLE001  # such as of JAX's random keys
        return None


def stored_bytes(array: Any) -> int:
    """Return how many bytes a ``Pickler`` stores of an array."""
    return min(int(array.nbytes), array.untyped_storage().nbytes() if _is_tensor(array) else sys.maxsize)


class Pickler(pickle.Pickler):
    """Stores the elements of a tensor that is a view; pickle would store the whole storage, once for each view."""

    def reducer_override(self, value: Any) -> Any:
        with suppress(Exception):  # of a layout without one storage, or of a subclass
            if _is_tensor(value) and value.nbytes < value.untyped_storage().nbytes():
                own = value.detach().clone()
                if type(own) is type(value):  # a parameter is stored by a tensor, which comes here next
                    return own.requires_grad_(value.requires_grad).__reduce_ex__(4)
        return NotImplemented


def assert_close(head: Any, base: Any, compare: Callable[[Any, Any, str], None], where: str) -> None:
    """Compare arrays by the tolerances of ``torch.testing``; the parts of one that has parts by ``compare``.

    Raises:
        AssertionError: they differ.

    """
    if _is_tensor(head):
        _assert_same("is_nested", head.is_nested, base.is_nested)
        if head.is_nested:
            compare(head.unbind(), base.unbind(), where)
        else:
            _assert_tensors_close(head, base)
        return
    import numpy as np  # noqa: PLC0415  # it is loaded: there are arrays

    for what, one, other in (("dtype", head.dtype, base.dtype), ("shape", head.shape, base.shape)):
        _assert_same(what, one, other)
    if head.dtype.names:
        for name in head.dtype.names:
            compare(head[name], base[name], f"{where}[{name!r}]")
    elif head.dtype.kind == "O":
        compare(head.tolist(), base.tolist(), where)
    elif isinstance(head, np.ma.MaskedArray):
        hidden = np.ma.getmaskarray(head)
        np.testing.assert_array_equal(hidden, np.ma.getmaskarray(base))
        _assert_values_close(head.data[~hidden], base.data[~hidden])
    else:
        _assert_values_close(head, base)


def assertion_of(kind: type) -> Callable[[Any, Any], None] | None:
    """Return the assertion that the package of a data frame, a series or an index has for it, if it is one."""
    package = kind.__module__.partition(".")[0]
    ending = next((ending for ending in FRAMES if kind.__name__.lower().endswith(ending)), None)
    if ending is None:
        return None
    try:
        found: Callable[[Any, Any], None] | None = getattr(
            import_module(f"{package}.testing"), f"assert_{ending}_equal", None
        )
    except ImportError:
        return None
    return found


def same_number(one: complex, other: complex) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if not (cmath.isnan(one) or cmath.isnan(other)):
        return one == other
    return same_number(one.real, other.real) and same_number(one.imag, other.imag)


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _assert_tensors_close(head: Any, base: Any) -> None:
    _assert_same("requires_grad", head.requires_grad, base.requires_grad)
    sys.modules["torch"].testing.assert_close(head, base, equal_nan=True, check_stride=False)


def _assert_same(what: str, one: object, other: object) -> None:
    if one != other:  # no assert statement: python -O leaves those out
        raise AssertionError(f"{what} {one}, and {other} in the base")


def _assert_values_close(head: Any, base: Any) -> None:
    import numpy as np  # noqa: PLC0415

    if head.dtype.name == "bfloat16":  # which NumPy itself does not have
        rtol, atol, head, base = 1.6e-2, 1e-5, head.astype(np.float32), base.astype(np.float32)
    elif head.dtype.kind in "fc":
        of_part = np.finfo(head.dtype).dtype.itemsize  # a complex number has the tolerance of its parts
        rtol, atol = {2: (1e-3, 1e-5), 4: (1.3e-6, 1e-5)}.get(of_part, (1e-7, 1e-7))
    else:
        np.testing.assert_array_equal(head, base)
        return
    np.testing.assert_allclose(head, base, rtol=rtol, atol=atol, equal_nan=True)
