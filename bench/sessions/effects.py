"""What the calls of a test leave, for the other side to compare: results, and arguments and variables they change."""

import io
import pickle
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from inspect import getclosurevars, ismethod
from pathlib import Path
from typing import Any, Self

from ..plain.printable import first_line
from . import difference
from .arrays import Pickler, is_array, stored_bytes
from .difference import Difference

RESULT = "the result"
LATER, OVERWRITTEN = "in a later call, the result", "after a later call, the first result"
LARGEST = 64 << 20  # bytes, pickled, of an argument, a variable and a later result that is compared
DATA = (list, dict, set, bytearray, array, deque)


class Effects:
    """Pickles what two calls of a test leave, each part by the name that a verdict gives it.

    ``unsaved`` says why the first result cannot be pickled. Arguments count, and variables that the function uses, if
    the call has changed them and they are data, modules of torch or gradients. What else it changes is not compared.
    """

    def __init__(self, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any], tests: str | None = None) -> None:
        """Note arguments and variables as they are before the first call; ``tests`` names the module of the test."""
        self.parts: dict[str, bytes] = {}
        self.unsaved: str | None = None
        while isinstance(target, partial):
            target, args, kwargs = target.func, (*target.args, *args), {**target.keywords, **kwargs}
        named = [(f"argument {name!r}", value) for name, value in (*enumerate(args), *kwargs.items())]
        named += [(f"variable {name!r}", value) for name, value in _variables(target, tests).items()]
        seen = [one for name, value in named for one in _watched(name, value)]
        self._data = {f"after the call, {name}": (_pickled(now), now) for name, now in seen}

    def first(self, result: object) -> None:
        """Keep the result of the first call, and the arguments and variables that it has changed."""
        try:
            self.parts[RESULT] = _written(io.BytesIO(), result)
        except Exception as error:  # noqa: BLE001  # whatever the class of the result does
            self.unsaved = f"a {type(result).__qualname__} cannot be pickled ({first_line(str(error))})"
        for name, (before, now) in self._data.items():
            self._add_if_changed(name, before, now)

    def later(self, first: object, result: object) -> None:
        """Keep the result of a later call, and the first one if that call has changed it."""
        before = self.parts.get(RESULT)
        if before is None or len(before) > LARGEST or (pickled := _pickled(lambda: result)) is None:
            return
        self.parts[LATER] = before if pickled == before else pickled  # the same bytes are stored once
        self._add_if_changed(OVERWRITTEN, before, lambda: first)

    @property
    def digests(self) -> dict[str, bytes]:
        """What tells the parent, without reading a part, that both sides left the same."""
        return {name: sha256(part).digest() for name, part in self.parts.items()}

    def _add_if_changed(self, name: str, before: bytes | None, now: Callable[[], object]) -> None:
        after = _pickled(now)
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


def _variables(target: Any, tests: str | None) -> dict[str, object]:
    """Return what a function uses of the test around it and of the test's file, and the object whose method it is."""
    found: dict[str, object] = {"self": target.__self__ if ismethod(target) else target}
    with suppress(TypeError, ValueError):  # no function of Python; a variable that has no value yet
        used = getclosurevars(target)
        found |= used.nonlocals
        if target.__module__ == tests:
            found |= used.globals
    owner = found["self"]
    if type(owner).__module__ == tests:
        found |= {f"self.{name}": value for name, value in getattr(owner, "__dict__", {}).items()}
    return found


def _watched(name: str, value: Any) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the names of what may change of a value, each with what returns how it is now."""
    torch = sys.modules.get("torch")
    if type(value) in DATA or is_array(value):
        yield name, lambda: value
    with suppress(Exception):  # of a tensor that is not one of torch's own
        if torch is not None and isinstance(value, torch.nn.Module):
            yield name, partial(_tensors_of, value)
        elif torch is not None and isinstance(value, torch.Tensor) and value.is_leaf and value.requires_grad:
            yield f"the gradient of {name}", lambda: value.grad


def _tensors_of(module: Any) -> dict[str, Any]:
    """Return the parameters and buffers of a module, and the gradients that there are."""
    parameters = dict(module.named_parameters())
    gradients = {f"{name}.grad": one.grad for name, one in parameters.items() if one.grad is not None}
    return parameters | dict(module.named_buffers()) | gradients


def _pickled(now: Callable[[], Any]) -> bytes | None:
    """Pickle a value; None if it cannot be had or pickled, or is too large."""
    try:
        value = now()
        arrays = filter(is_array, value.values() if type(value) is dict else [value])
        if sum(map(stored_bytes, arrays)) > LARGEST:  # which would be copied before they are found too large
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
