"""How many threads torch and Numba use: tests may set more than there are cores, which would wait for each other."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any


def limit(most: int) -> list[Callable[[], None]]:
    """Let each use so many threads at most; returns what gives the tests their own numbers back."""
    torch, numba = sys.modules.get("torch"), sys.modules.get("numba.np.ufunc.parallel")
    libraries: list[Any] = [library for library in (torch, numba) if library is not None]
    undo: list[Callable[[], None]] = []
    for library in libraries:
        # Numba would start its threads to say how many there are.
        if getattr(library, "_is_initialized", True) and (own := library.get_num_threads()) > most:
            library.set_num_threads(most)
            undo.append(partial(library.set_num_threads, own))
    return undo
