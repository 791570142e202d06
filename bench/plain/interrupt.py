"""Lets a process end as cleanly when the system asks for it as when its user does."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ASKED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Make SIGTERM and SIGHUP do what Ctrl-C does, for as long as the context lasts.

    Once: a second one may be urgent. A handler that somebody else has set stays.
    """
    taken = [number for number in _ASKED if signal.getsignal(number) is signal.SIG_DFL]

    def interrupt(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")

    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
