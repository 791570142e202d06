"""Refuses a second side's compiled library that registers operators, before it ends the process.

C++ registers operators (``TORCH_LIBRARY``) when a library is loaded, under names that nothing can change; a second
version of the same library registers them again, and torch aborts. Extensions that register none are loaded as ever.
"""

import ctypes
import functools
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any

from ..plain.errors import CannotDo
from .view import speaking

# The constructor of torch::Library, which every library that registers operators calls, as a dynamic symbol.
_REGISTERS = b"_ZN5torch7LibraryC"


@functools.cache
def watch() -> None:
    """Have Python ask here before it loads a library, from now until the process ends."""
    create = ExtensionFileLoader.create_module

    @functools.wraps(create)
    def create_module(self: ExtensionFileLoader, spec: Any) -> Any:
        _refuse(self.path)
        return create(self, spec)

    ExtensionFileLoader.create_module = create_module  # type: ignore[method-assign]
    ctypes.CDLL.__init__ = _asking(ctypes.CDLL.__init__)  # type: ignore[method-assign]  # as torch.ops.load_library does


def _asking(initialize: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(initialize)
    def asked(self: ctypes.CDLL, name: Any, *args: Any, **kwargs: Any) -> None:
        _refuse(name)
        initialize(self, name, *args, **kwargs)

    return asked


def _refuse(path: Any) -> None:
    view = speaking()
    if view is None or not view.tag or not isinstance(path, (str, Path)) or not Path(path).is_file():
        return
    if _REGISTERS in Path(path).read_bytes():
        raise CannotDo(
            f"the base loads {Path(path).name}, a compiled library that registers operators, and this process can hold "
            "one version of it: compare with --gate-base-python=PATH, the interpreter of an environment that has the "
            "base installed"
        )
