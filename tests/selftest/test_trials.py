"""Silent faults in whole runs of the gate: planted in a copy, caught if the run fails and names them."""

from pathlib import Path

import pytest

from bench.selftest.faults import FAULTS, PLAIN, Fault
from bench.selftest.trials import Trial, attempt

CASE = "probe-b1h4t64d32-full-fp32-cpu-fwd]"
OF_A_KIND = {fault.kind: fault for fault in FAULTS}


def test_a_silent_fault_is_planted_and_caught(tmp_path: Path) -> None:
    trial = attempt(OF_A_KIND["a module beside the package"], tmp_path, CASE)
    assert trial.caught, trial.said


@pytest.mark.parametrize(
    ("exit_code", "named", "caught"),
    [(1, True, True), (4, True, True), (0, True, False), (2, True, False), (1, False, False)],
)
def test_a_fault_is_caught_where_a_run_that_did_not_pass_names_it(exit_code: int, named: bool, caught: bool) -> None:
    fault = OF_A_KIND["a resource of the package"]
    assert Trial(fault, exit_code, f"gate: FAIL {fault.said}" if named else "gate: FAIL").caught is caught


def test_there_is_one_fault_of_each_kind() -> None:
    assert len(OF_A_KIND) == len(FAULTS)
    assert PLAIN in {fault.base_call for fault in FAULTS}
    assert all(isinstance(fault, Fault) and fault.said for fault in FAULTS)
