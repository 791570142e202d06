"""What the system asks of a process does what Ctrl-C does, once."""

import os
import signal

import pytest

from bench.plain.interrupt import ending_cleanly


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_of_the_system_interrupts_once(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt, match=f"^ended by {number.name}$"), ending_cleanly():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)
        with ending_cleanly():
            assert signal.getsignal(number) is signal.SIG_IGN  # somebody else's stays
    finally:
        signal.signal(number, before)
