"""Silent faults in whole runs of the gate: planted in a copy, and caught; the same kernel without the edit passes."""

from dataclasses import replace
from pathlib import Path

from bench.selftest.faults import FAULTS, PLAIN, Fault
from bench.selftest.trials import attempt

CASE = "probe-b1h4t64d32-full-fp32-cpu-fwd]"
OF_A_KIND = {fault.kind: fault for fault in FAULTS}


def test_a_silent_fault_is_planted_and_caught(tmp_path: Path) -> None:
    trial = attempt(OF_A_KIND["a module beside the package"], tmp_path, CASE)
    assert trial.caught, trial.said


def test_the_kernel_without_an_edit_passes_and_counts_as_missed(tmp_path: Path) -> None:
    fault = OF_A_KIND["a resource of the package"]
    trial = attempt(replace(fault, head_files=fault.base_files), tmp_path, CASE)
    assert (trial.exit_code, trial.caught) == (0, False), trial.said


def test_there_is_one_fault_of_each_kind() -> None:
    assert len(OF_A_KIND) == len(FAULTS)
    assert PLAIN in {fault.base_call for fault in FAULTS}
    assert all(isinstance(fault, Fault) and fault.said for fault in FAULTS)
