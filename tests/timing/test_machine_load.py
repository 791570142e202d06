"""The load meter on the real machine: plausible figures, whatever it is doing."""

import subprocess
import sys
import time

from bench.timing.machine_load import LoadMeter, _now


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
