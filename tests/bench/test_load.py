"""The load meter on the real machine: plausible figures, whatever it is doing."""

import time

from bench.load import LoadMeter


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
