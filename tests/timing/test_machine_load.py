"""The load meter: its sums on a machine of known figures, and plausible ones on the real machine."""

import subprocess
import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace

import psutil
import pytest

from bench.plain.evidence import Load
from bench.timing import machine_load
from bench.timing.machine_load import LoadMeter, _now, _Seconds


def test_the_meter_reads_plausible_cores_and_does_not_count_its_own_process() -> None:
    meter = LoadMeter()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    load = meter.read()
    assert load.cores >= 1
    assert 0.0 <= load.other_cores <= load.cores + 0.5
    assert 0.0 <= load.stolen_cores <= load.cores + 0.5
    assert load.clock_share is None or load.clock_share > 0


def test_the_meter_counts_processes_that_it_started_as_its_own() -> None:
    own_s = time.process_time()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        before = _now()
        time.sleep(0.5)
        after = _now()
        child.kill()
    assert after.own - before.own > 2 * (time.process_time() - own_s)


START = _Seconds(wall=4.0, busy=5.0, own=2.0, stolen=3.0)
CLOCK = SimpleNamespace(current=1800.0, max=2400.0)


@pytest.mark.parametrize(
    ("now", "clock", "load"),
    [
        (_Seconds(14.0, 30.0, 12.0, 5.0), CLOCK, Load(4, 1.5, 0.2, 0.75)),
        (_Seconds(14.0, 10.0, 12.0, 2.0), None, Load(4, 0.0, 0.0, None)),  # clocks of the system are coarse
        (_Seconds(14.0, 30.0, 12.0, 5.0), SimpleNamespace(current=1800.0, max=0.0), Load(4, 1.5, 0.2, None)),
        (_Seconds(14.0, 30.0, 12.0, 5.0), SimpleNamespace(current=0.5, max=1.0), Load(4, 1.5, 0.2, 0.5)),
        (_Seconds(4.5, 6.0, 2.5, 3.25), CLOCK, Load(4, 1.0, 0.5, 0.75)),
        (START, CLOCK, Load(4, 0.0, 0.0, 0.75)),
    ],
)
def test_what_others_did_is_what_was_busy_and_not_our_own_over_the_time_that_passed(
    monkeypatch: pytest.MonkeyPatch, now: _Seconds, clock: object, load: Load
) -> None:
    monkeypatch.setattr(machine_load, "_now", lambda: now)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(psutil, "cpu_freq", lambda: clock, raising=False)
    assert LoadMeter(START).read() == load


def test_a_system_that_tells_neither_clock_nor_cores_is_taken_to_have_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_load, "_now", lambda: START)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    monkeypatch.delattr(psutil, "cpu_freq", raising=False)
    assert LoadMeter(START).read() == Load(1, 0.0, 0.0, None)


class Process:
    """One that has these CPU times, or has ended."""

    def __init__(self, children: Sequence["Process"] = (), **times: float) -> None:
        self.all_children, self.times = children, times

    def children(self, *, recursive: bool) -> Sequence["Process"]:
        return self.all_children if recursive else ()

    def cpu_times(self) -> SimpleNamespace:
        if not self.times:
            raise psutil.NoSuchProcess(1)
        return SimpleNamespace(**self.times)


@pytest.mark.parametrize(
    ("machine", "busy", "stolen"),
    [
        ({"user": 16.0, "system": 32.0, "nice": 64.0, "steal": 5.0}, 112.0, 5.0),
        ({"user": 16.0, "system": 32.0}, 48.0, 0.0),
    ],
)
def test_all_that_this_process_and_its_children_did_is_its_own_and_niced_work_is_busy_too(
    monkeypatch: pytest.MonkeyPatch, machine: dict[str, float], busy: float, stolen: float
) -> None:
    children = (Process(user=0.5, system=0.25), Process())  # the second has ended
    this = Process(children, user=1.0, system=2.0, children_user=4.0, children_system=8.0)
    monkeypatch.setattr(psutil, "Process", lambda: this)
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(**machine))
    with monkeypatch.context() as clock:
        clock.setattr("time.monotonic", lambda: 7.0)
        now = _now()
    assert now == _Seconds(wall=7.0, busy=busy, own=15.75, stolen=stolen)
