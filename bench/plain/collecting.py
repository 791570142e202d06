"""When Python collects garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep Python from collecting garbage by itself: in a call that is timed, or whose garbage is counted."""
    threshold = gc.get_threshold()[0]
    gc.set_threshold(0)  # it stays enabled, so that code inside that disables it can be seen to
    try:
        yield
    finally:
        gc.set_threshold(threshold)
