"""Views: two versions of some packages in one process, both under their own names in ``sys.modules`` and ``torch.ops``.

A view is entered while its side is imported or called (a burst at a time, outside of what is timed). Inside of it,
``import``, ``importlib``, resources and ``torch.ops`` give the side its own modules and operators, whenever it asks for
them. Entering and leaving takes some microseconds, the same for either side.
"""

import re
import sys
from collections.abc import Iterable
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch._ops import _OpNamespace

if TYPE_CHECKING:
    from types import FrameType, ModuleType

_TAG = "__gate"
_TAGGED = re.compile(rf"{_TAG}\d+")
_numbers = count(1)
_active: list["View"] = []  # the innermost last
_registered: dict[tuple[str, str], str] = {}  # (namespace, operator) -> the top-level module that registered it

# Modules that others register and load through: their frames are skipped when the speaker is looked for.
_BETWEEN = (
    "torch.library",
    "torch._library",
    "torch._ops",
    "torch.utils.cpp_extension",
    "importlib",
    "functools",
    "contextlib",
    "ctypes",
    __package__,
)


class View:
    """A side's world: the modules of its packages, and the operators that it registers.

    ``names`` are the top-level packages and modules of which each side has a version. The view of code that is imported
    already has no ``root``: its modules are those that the process has outside of all views. A side that is ``alone``
    in its process shares nothing, so its operators keep their names.
    """

    def __init__(self, names: Iterable[str], root: Path | None = None, *, alone: bool = False) -> None:
        self.names = frozenset(names)
        self.tag = "" if root is None or alone else f"{_TAG}{next(_numbers)}"
        self.modules: dict[str, ModuleType] = {}
        self._root = None if root is None else str(root)
        self._namespaces: dict[str, _OpNamespace] = {}  # by the side's own name for it
        self._seen = 0  # registered operators that were already looked at
        self._depth = 0
        self._outer: dict[str, ModuleType] = {}
        self._outer_namespaces: dict[str, Any] = {}
        self._outer_keys: list[str] = []
        self._outer_count = self._inner_count = -1  # of all modules; while it is the same, no module is new

    @property
    def resident(self) -> bool:
        """Whether its modules are what the process has outside of all views."""
        return self._root is None

    def __enter__(self) -> Self:
        self._depth += 1
        if self._depth > 1:
            return self
        modules = sys.modules
        if len(modules) != self._outer_count:
            self._outer_keys = self._keys()
        self._outer = {name: modules.pop(name) for name in self._outer_keys if name in modules}
        if self.resident:
            self.modules = self._outer
        else:
            assert self._root is not None  # only a resident view has none
            sys.path.insert(0, self._root)
        modules.update(self.modules)
        self._inner_count = len(modules)
        if self._seen != len(_registered) and self.tag:
            self._hide_the_other_side_s()
        self._put_namespaces()
        _active.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        _active.remove(self)
        self._take_namespaces()
        modules = sys.modules
        keys = list(self.modules) if len(modules) == self._inner_count else self._keys()
        self.modules = {name: modules.pop(name) for name in keys if name in modules}
        if self.resident:
            self._outer = self.modules
        elif self._root in sys.path:
            sys.path.remove(self._root)
        modules.update(self._outer)
        self._outer_keys = list(self._outer)
        self._outer_count = len(modules)

    def close(self) -> None:
        """Forget its modules; its operators stay registered, under names of their own."""
        self.modules = {}

    def own_namespace(self, name: str) -> str:
        """Return the namespace that torch has for the side's operators of a namespace, and for no other side's."""
        if not self.tag or name.endswith(self.tag):
            return name
        if name not in self._namespaces:
            self._namespaces[name] = _Namespace(name, self)
            if self._depth:
                self._outer_namespaces[name] = vars(torch.ops).get(name)
                setattr(torch.ops, name, self._namespaces[name])
        return f"{name}{self.tag}"

    def has_namespace(self, name: str) -> bool:
        """Whether the side registered operators in the namespace."""
        return name in self._namespaces or (bool(self.tag) and name.endswith(self.tag))

    def _hide_the_other_side_s(self) -> None:
        """Give the side a namespace of its own wherever the other registered operators, to hide those."""
        self._seen = len(_registered)
        for namespace, _ in [key for key, top in _registered.items() if top in self.names]:
            if not _TAGGED.search(namespace) and namespace not in self._namespaces:
                self._namespaces[namespace] = _Namespace(namespace, self)

    def _keys(self) -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in self.names]

    def _put_namespaces(self) -> None:
        ops = vars(torch.ops)
        self._outer_namespaces = {name: ops.get(name) for name in self._namespaces}
        ops.update(self._namespaces)

    def _take_namespaces(self) -> None:
        ops = vars(torch.ops)
        for name, outer in self._outer_namespaces.items():
            if outer is None:
                del ops[name]
            else:
                ops[name] = outer


class _Namespace(_OpNamespace):
    """``torch.ops.NAME`` as one side sees it: its own operators, and those of others that it does not define."""

    __module__ = _OpNamespace.__module__  # operators are pickled by their namespace

    def __init__(self, name: str, view: View) -> None:
        super().__init__(name + view.tag)
        self._given_name, self._sides = name, view.names
        setattr(torch.ops, name + view.tag, self)  # generated code calls operators by their registered name

    def __getattr__(self, op_name: str) -> Any:
        try:
            return super().__getattr__(op_name)
        except AttributeError:
            if _registered.get((self._given_name, op_name)) in self._sides:
                raise  # the operator is the other side's
            others = _others(self._given_name)
            return getattr(others, op_name)  # not cached: the side may still define one of that name


@cache
def _others(name: str) -> _OpNamespace:
    return _OpNamespace(name)


def speaking() -> View | None:
    """Return the active view if the caller is code of its side; None if it is other code, or no view is active."""
    return _active[-1] if _active and _speaker() in _active[-1].names else None


def note_operator(namespace: str, name: str) -> None:
    """Note which top-level module registers an operator: the caller's."""
    _registered[namespace, name] = _speaker()


def _speaker() -> str:
    """Return the top-level module whose code called torch; the frames of ``_BETWEEN`` are skipped."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # the caller is what is asked for
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if not any(name == between or name.startswith(f"{between}.") for between in _BETWEEN):
            return name.partition(".")[0]
        frame = frame.f_back
    return ""


def untagged(name: str) -> str:
    """Return the name of an operator as its side wrote it."""
    return _TAGGED.sub("", name)
