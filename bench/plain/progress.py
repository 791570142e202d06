"""Prints a line now and then while something takes long, so that it does not seem stuck."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

EVERY_S = 10.0


@contextmanager
def progress(what: str, every_s: float = EVERY_S) -> Iterator[None]:
    """Print to standard error, every so many seconds, how long the work inside has taken; nothing if it is quick."""
    done = Event()

    def tell() -> None:
        seconds = 0.0
        while not done.wait(every_s):
            seconds += every_s
            print(f"gate: {what}, {seconds:.0f} s so far", file=sys.__stderr__, flush=True)

    teller = Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
