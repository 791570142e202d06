"""Lets a process end as cleanly when the system asks for it as when its user does."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SAME_S = 1.0  # two signals within this time are one request: timeout(1) signals the process, and then its group
_ASKED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Make SIGTERM and SIGHUP do what Ctrl-C does, for as long as the context lasts.

    A second request ends the process at once: it may be urgent. A handler that somebody else has set stays.
    """
    asked_s: float | None = None
    taken = [number for number in _ASKED if signal.getsignal(number) is signal.SIG_DFL]

    def interrupt(number: int, _: FrameType | None) -> None:
        nonlocal asked_s
        if asked_s is None:
            asked_s = time.monotonic()
            raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")
        if time.monotonic() - asked_s > SAME_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
