"""The gate's commands on the benchmarks of a repository that is not ours."""

import pytest

from bench.__main__ import main
from bench.commands import bisect
from bench.selftest import of_tests
from bench.sources.target import SUITE

from .conftest import TEST, Make, Repository

MODULE = "def f():\n    return sum(range(3000)) * {value}\n"
TEST_ID = "benchmarks/test_f.py::test_f"
SHORT = "[tool.pytest.ini_options]\naddopts = '--benchmark-max-time=0.01'\n"


@pytest.fixture
def theirs(repository: Make, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Make a repository in which this process then works; the runs that it starts find the gate."""
    made = repository(
        {"m.py": MODULE.format(value=1), "conftest.py": "", "benchmarks/test_f.py": TEST, "pyproject.toml": SHORT}
    )
    monkeypatch.chdir(made.path)
    monkeypatch.setenv("PYTHONPATH", str(SUITE))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # each of ten runs, and each twin, would load them all
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_benchmark.plugin")
    return made


def test_the_commit_that_changed_a_test_s_result_is_found(
    theirs: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in ("1 + 0", "2"):
        theirs.commit({"m.py": MODULE.format(value=value)})
    theirs.write({"m.py": "not committed, and broken"})  # so the test on disk cannot be collected here
    assert main(["bisect", TEST_ID, "--good=main", "--step"]) == bisect.UNDECIDED
    theirs.git("checkout", "m.py")
    capsys.readouterr()
    assert main(["bisect", TEST_ID, "--good=main", "--gate-threshold=100%"]) == 0
    found = capsys.readouterr().out
    assert " is the first that is DRIFTED" in found
    assert f"{TEST_ID}: DRIFTED" in found
    assert main(["bisect", "benchmarks/test_f.py::test_g", "--good=main"]) == 4
    assert "test_g" in capsys.readouterr().err


def test_a_self_test_counts_what_the_gate_says_of_unchanged_and_of_slowed_tests(
    theirs: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_tests, "SLOWDOWNS", (0.02, 1.0))  # below the threshold, and above
    theirs.write({"m.py": MODULE.format(value=3)})  # what is on disk is compared with itself, committed or not
    assert main(["selftest", "benchmarks", "--time-limit=1", "--gate-threshold=40%"]) == 0
    rows = {line[:46].strip(): line[47:] for line in capsys.readouterr().out.splitlines() if " target " in line}
    assert rows["unchanged runs that failed"].startswith("0 of 1")
    assert rows["slowdown of 2% caught"].startswith("0 of 1")
    assert rows["slowdown of 100% caught"].startswith("1 of 1")
