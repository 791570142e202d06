"""What the system's signals do to a run."""

import signal
import subprocess
import sys
from textwrap import dedent

import pytest

from bench.plain.interrupt import ending_cleanly

ASKED_TWICE = """
    import signal
    import time
    from bench.plain import interrupt

    interrupt.SAME_S = {same_s}
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore it
    with interrupt.ending_cleanly():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            time.sleep(0.01)
            signal.raise_signal(signal.SIGHUP)
            print("cleaned up")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_of_the_system_interrupts_unless_somebody_else_handles_it(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt, match=f"^ended by {number.name}$"), ending_cleanly():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)
        with ending_cleanly():
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(("same_s", "code", "printed"), [(1, 0, "cleaned up\n"), (0, -signal.SIGHUP, "")])
def test_a_second_signal_ends_the_process_unless_it_belongs_to_the_first(same_s: int, code: int, printed: str) -> None:
    program = dedent(ASKED_TWICE.format(same_s=same_s))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, printed), done.stderr
