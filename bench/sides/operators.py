"""Operators that a side registers with ``torch.library``: each side's go to a namespace of its own.

Names reach torch through its public functions that take one, through ``Library``, and through the class behind
``custom_op``. All of them are wrapped. A side that changes operators of others is refused, since both sides would run
its version.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch.library
from torch._library.custom_ops import CustomOpDef

from ..plain.errors import CannotDo
from .view import View, note_operator, speaking

_FIRST = frozenset({"name", "qualname", "op", "op_name"})  # parameters that take an operator's name
_DEFINING = frozenset({"custom_op", "triton_op", "define"})


@functools.cache
def watch() -> None:
    """Have torch pass every operator's name through the view of the side that registers it, until the process ends."""
    for name, function in list(vars(torch.library).items()):
        if callable(function) and not inspect.isclass(function) and _takes_a_name(function):
            setattr(torch.library, name, _renaming(function, defines=name in _DEFINING))
    library = torch.library.Library
    library.__init__ = _into_own_namespace(library.__init__)  # type: ignore[method-assign]
    for name in ("impl", "_register_fake", "_register_torch_dispatch_rule"):
        if hasattr(library, name):
            setattr(library, name, _renaming(getattr(library, name), defines=False, position=1))
    library.define = _noting(library.define)  # type: ignore[method-assign]
    CustomOpDef.__init__ = _into_own_namespace(CustomOpDef.__init__)  # type: ignore[method-assign]


def _takes_a_name(function: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return False
    return bool(parameters) and parameters[0] in _FIRST


def _renaming(function: Callable[..., Any], *, defines: bool, position: int = 0) -> Callable[..., Any]:
    """Wrap a function that takes ``namespace::operator`` at a position, or by its name."""

    @functools.wraps(function)
    def renamed(*args: Any, **kwargs: Any) -> Any:
        view = speaking()
        if view is not None and view.tag:
            args = tuple(_own(view, a, defines=defines) if i == position else a for i, a in enumerate(args))
            kwargs = {k: _own(view, a, defines=defines) if k in _FIRST else a for k, a in kwargs.items()}
        return function(*args, **kwargs)

    return renamed


def _into_own_namespace(initialize: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor whose first argument is a namespace; one of a library says second whether it defines any."""

    @functools.wraps(initialize)
    def renamed(self: Any, namespace: str, kind: str, *args: Any, **kwargs: Any) -> None:
        view = speaking()
        if view is not None and view.tag:
            namespace = _namespace(view, namespace, defines=kind != "IMPL")
        initialize(self, namespace, kind, *args, **kwargs)

    return renamed


def _noting(define: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(define)
    def noted(self: Any, schema: str, *args: Any, **kwargs: Any) -> Any:
        note_operator(self.ns, schema.partition("(")[0].partition(".")[0].rpartition("::")[2].strip())
        return define(self, schema, *args, **kwargs)

    return noted


def _own(view: View, name: Any, *, defines: bool) -> Any:
    if not isinstance(name, str) or "::" not in name:
        return name
    namespace, _, rest = name.partition("::")
    return f"{_namespace(view, namespace, defines=defines)}::{rest}"


def _namespace(view: View, name: str, *, defines: bool) -> str:
    if not defines and not view.has_namespace(name):
        raise CannotDo(
            f"a side registers kernels for operators of the namespace {name!r}, which it does not define: both sides "
            "would run them, so compare with --gate-base-python, a process for each side"
        )
    return view.own_namespace(name)
