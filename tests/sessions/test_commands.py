"""The gate's commands on the benchmarks of a repository that is not ours."""

from collections.abc import Callable, Mapping

from bench.selftest.findings import SLOWDOWNS

from .conftest import Repository

Make = Callable[[Mapping[str, str]], Repository]
MODULE = "def f():\n    return sum(range(3000)) * {value}\n"
TEST = "import m\n\ndef test_f(benchmark):\n    benchmark(m.f)\n"
TEST_ID = "benchmarks/test_f.py::test_f"


def repository_of(repository: Make) -> Repository:
    return repository({"m.py": MODULE.format(value=1), "conftest.py": "", "benchmarks/test_f.py": TEST})


def test_the_commit_that_changed_a_test_s_result_is_found(repository: Make) -> None:
    theirs = repository_of(repository)
    for value in ("1 + 0", "2", "2 + 0"):
        theirs.commit({"m.py": MODULE.format(value=value)})
    theirs.write({"m.py": "not committed, and broken"})  # so the test on disk cannot be collected here
    broken = theirs.command("bisect", TEST_ID, "--good=main", "--gate-threshold=100%")
    assert broken.exit_code == 4, broken.output
    theirs.git("checkout", "m.py")
    found = theirs.command("bisect", TEST_ID, "--good=main", "--gate-threshold=100%")
    assert found.exit_code == 0, found.output
    assert " is the first that is DRIFTED" in found.output
    assert f"{TEST_ID}: DRIFTED" in found.output
    step = theirs.command("bisect", TEST_ID, "--good=main", "--gate-threshold=100%", "--step")
    assert step.exit_code == 1, step.output
    none = theirs.command("bisect", "benchmarks/test_f.py::test_g", "--good=main")
    assert none.exit_code == 4
    assert "test_g" in none.output
    assert "Traceback" not in none.output


def test_a_self_test_counts_what_the_gate_says_of_unchanged_and_of_slowed_tests(repository: Make) -> None:
    theirs = repository_of(repository)
    theirs.write({"m.py": MODULE.format(value=3)})  # what is on disk is compared with itself, committed or not
    tested = theirs.command("selftest", "benchmarks", "--time-limit=1", "--gate-threshold=100%")
    assert tested.exit_code == 0, tested.output
    rows = {line[:46].strip(): line[47:] for line in tested.output.splitlines() if " target " in line}
    assert rows["unchanged runs that failed"].startswith("0 of 1")
    for share in SLOWDOWNS:  # none is as large as the threshold
        assert rows[f"slowdown of {100 * share:g}% caught"].startswith("0 of 1")


def test_a_head_that_is_made_slower_has_regressed(repository: Make) -> None:
    slowed = repository_of(repository).pytest("benchmarks", "--gate-slowed=100%")
    assert slowed.exit_code == 1, slowed.output
    assert slowed.verdicts == {"test_f": "REGRESSED"}
