"""What the calls of a test leave, for the other side to compare: results, and arguments that they change."""

import io
import pickle
import sys
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from ..plain.printable import first_line
from . import difference
from .arrays import Pickler, is_array, stored_bytes
from .difference import Difference

RESULT = "the result"
LATER, OVERWRITTEN = "in a later call, the result", "after a later call, the first result"
LARGEST = 64 << 20  # bytes, pickled, of an argument and of a later result that is compared
DATA = (list, dict, set, bytearray, array, deque)


class Effects:
    """Pickles what two calls of a test leave, each part by the name that a verdict gives it.

    ``unsaved`` says why the first result cannot be pickled. Arguments count if they are data that the call has changed:
    those of other types may change in ways that nobody sees.
    """

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Note the arguments as they are before the first call."""
        given = (*enumerate(args), *kwargs.items())
        self.parts: dict[str, bytes] = {}
        self.unsaved: str | None = None
        self._data = {
            f"after the call, argument {name!r}": (_pickled(value), value)
            for name, value in given
            if type(value) in DATA or is_array(value)
        }

    def first(self, result: object) -> None:
        """Keep the result of the first call, and the arguments that it has changed."""
        try:
            self.parts[RESULT] = _written(io.BytesIO(), result)
        except Exception as error:  # noqa: BLE001  # whatever the class of the result does
            self.unsaved = f"a {type(result).__qualname__} cannot be pickled ({first_line(str(error))})"
        for name, (before, value) in self._data.items():
            self._add_if_changed(name, before, value)

    def later(self, first: object, result: object) -> None:
        """Keep the result of a later call, and the first one if that call has changed it."""
        before = self.parts.get(RESULT)
        if before is None or len(before) > LARGEST or (pickled := _pickled(result)) is None:
            return
        self.parts[LATER] = before if pickled == before else pickled  # the same bytes are stored once
        self._add_if_changed(OVERWRITTEN, before, first)

    @property
    def digests(self) -> dict[str, bytes]:
        """What tells the parent, without reading a part, that both sides left the same."""
        return {name: sha256(part).digest() for name, part in self.parts.items()}

    def _add_if_changed(self, name: str, before: bytes | None, value: object) -> None:
        after = _pickled(value)
        if before is None or after is None or before == after:
            return
        if _difference(name, after, before, {}).found:  # equal values may be pickled in two ways
            self.parts[name] = after


def differences(head: Path, base: Path, places: Mapping[Path, Path]) -> dict[str, Difference]:
    """Compare what both sides left in files, part by part; ``places`` as for ``difference.between``."""
    ours, theirs = _read(head), _read(base)
    found = {}
    for name in {**ours, **theirs}:
        one, other = ours.get(name), theirs.get(name)
        if one is not None and other is not None:
            found[name] = _difference(name, one, other, places)
        elif name not in (RESULT, LATER):  # of these two, one side could not be pickled
            where = ", and not in the base" if other is None else " in the base alone"
            found[name] = Difference(f"{name} is changed{where}")
    return found


def _read(file: Path) -> dict[str, bytes]:
    with file.open("rb") as opened:
        parts: dict[str, bytes] = pickle.load(opened)  # noqa: S301  # our own
    return parts


def _difference(name: str, one: bytes, other: bytes, places: Mapping[Path, Path]) -> Difference:
    if one == other:
        return Difference()
    try:
        return difference.between(*_loaded(one, other), places, name)
    except Exception as error:  # noqa: BLE001  # of a class that pickle cannot make, nor a stand-in replace
        return Difference(unknown=f"{name} cannot be read ({type(error).__name__}: {first_line(str(error))})")


def _pickled(value: object) -> bytes | None:
    """Pickle a value; None if that cannot be done, or is too large."""
    try:
        if is_array(value) and stored_bytes(value) > LARGEST:  # which would be copied before it is found too large
            return None
        return _written(_Bounded(), value)
    except Exception:  # noqa: BLE001  # whatever its class does
        return None


def _written(file: io.BytesIO, value: object) -> bytes:
    Pickler(file, protocol=4).dump(value)
    return file.getvalue()


class _Bounded(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > LARGEST:
            raise OverflowError
        return super().write(data)


def _loaded(one: bytes, other: bytes) -> tuple[Any, Any]:
    """Return two values, both made of stand-ins if a class does not let one of them be made again."""
    with suppress(Exception):
        return pickle.loads(one), pickle.loads(other)  # noqa: S301  # our own
    standing_in: dict[tuple[str, str], type] = {}
    return _Reader(io.BytesIO(one), standing_in).load(), _Reader(io.BytesIO(other), standing_in).load()


class _Reader(pickle.Unpickler):
    """Reads a pickle with stand-ins for what is not of Python, NumPy or torch; no code of theirs runs."""

    def __init__(self, file: io.BytesIO, standing_in: dict[tuple[str, str], type]) -> None:
        super().__init__(file)
        self._standing_in = standing_in

    def find_class(self, module: str, name: str) -> Any:
        package = module.partition(".")[0]
        if package in sys.stdlib_module_names or package in ("numpy", "torch"):
            return super().find_class(module, name)
        if (module, name) not in self._standing_in:
            made = type(name, (_StandIn,), {"__module__": module, "__qualname__": name})
            self._standing_in[module, name] = made
        return self._standing_in[module, name]


class _StandIn:
    """Holds what pickle stores of an object: how it is made, its state, and its items."""

    def __new__(cls, *given: Any) -> Self:
        made = object.__new__(cls)
        made.given, made.items, made.state = given, [], None  # type: ignore[attr-defined]  # what __setstate__ would set
        return made

    def __init__(self, *given: Any) -> None:
        """Take what the class takes."""

    def __setitem__(self, key: object, value: object) -> None:
        self.items.append((key, value))  # type: ignore[attr-defined]

    def append(self, value: object) -> None:
        self.items.append(value)  # type: ignore[attr-defined]

    def __setstate__(self, state: object) -> None:
        self.state = state
