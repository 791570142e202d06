"""Runs of which no comparison can be made: exit code 4, and one sentence that says how to mend it.

What is refused for an option alone is in ``test_options.py``.
"""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from bench import plugin
from bench.plain.errors import CannotDo

from .conftest import REPOSITORY, Bench


def sentence(result: pytest.RunResult) -> str:
    """The one error line of a run that ended as a usage error."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.outlines[-5:]
    lines = [line for line in (*result.errlines, *result.outlines) if line.startswith("ERROR: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("ERROR: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--gate-base=HEAD", "--gate-threshold=0%"], "--gate-threshold=0%: give a percentage from 0.1% to 1000%"),
        (["-n2"], "timing under -n (pytest-xdist) measures the other workers: drop -n"),
        (["--benchmark-compare"], "no baseline is stored in "),
        (["--kernel=math:pi"], "--kernel=math:pi: pi is not callable: name a kernel function"),
        (["--gate-base=" + 5000 * "x"], "x' is neither a directory nor a revision that git knows in"),
    ],
)
def test_a_senseless_request_ends_in_one_sentence_and_exit_code_4_at_whatever_stage_it_is_seen(
    bench: Bench, arguments: list[str], expected: str
) -> None:
    assert expected in sentence(bench(*arguments))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--gate-base=HEAD", "--benchmark-disable"], "leaves nothing to compare or save"),
        (["--benchmark-save=x", "--benchmark-disable"], "leaves nothing to compare or save"),
        (["-n2", "--gate-base=HEAD"], "timing under -n (pytest-xdist)"),
        (["-n2", "--benchmark-save=x"], "timing under -n (pytest-xdist)"),
        (["--dist=load", "--benchmark-json=x"], "timing under -n (pytest-xdist)"),
    ],
)
def test_what_would_leave_nothing_to_time_or_time_it_beside_other_work_is_refused(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # the outer run's business
    config = pytester.parseconfig("-p", "bench.plugin", *arguments)
    comparing = config.getoption("gate_base") is not None
    with pytest.raises((pytest.UsageError, CannotDo), match=re.escape(expected)):
        plugin._refuse_untimed(config, comparing=comparing)


def test_comparing_without_the_benchmarks_is_no_pass(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_other(): pass")
    result = pytester.runpytest_inprocess("-p", "bench.plugin", f"--gate-base={REPOSITORY}")
    assert sentence(result).startswith("no case is left to compare")


def test_a_base_that_has_none_of_the_cases_is_no_pass(bench: Bench, pytester: pytest.Pytester) -> None:
    base = pytester.mkdir("attention")
    (base / "__init__.py").write_text(
        "from types import SimpleNamespace as N\nKERNELS = {'other': N(capabilities=N(lacks=lambda **_: 'anything'))}\n"
    )
    result = bench(f"--gate-base={pytester.path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.outlines[-1] == "gate: ERROR, nothing was compared: no selected case is in both base and head"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("KERNELS = {1: 2}", "no attribute 'capabilities': choose one whose kernels say what they support"),
        ("import os; os._exit(3)", "base ended in its own process with exit code 3"),
    ],
)
def test_a_base_that_cannot_be_loaded_is_one_sentence(
    bench: Bench, pytester: pytest.Pytester, text: str, expected: str
) -> None:
    (pytester.mkdir("attention") / "__init__.py").write_text(text)
    assert expected in sentence(bench(f"--gate-base={pytester.path}"))


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ([f"--gate-base={REPOSITORY}", "--gate-json=file/report.json"], "file/report.json"),
        (["--benchmark-save=x", "--benchmark-storage=file/stored"], "x.json"),
    ],
)
def test_a_file_that_cannot_be_written_is_said_before_anything_is_measured(
    bench: Bench, pytester: pytest.Pytester, arguments: list[str], place: str
) -> None:
    (pytester.path / "file").write_text("")
    result = bench(*arguments)
    assert f"{place} cannot be written (" in sentence(result)
    assert "collected" not in result.stdout.str()


def full(*_: object) -> None:
    raise CannotDo("the disk is full")


@pytest.mark.parametrize(
    ("writer", "arguments"),
    [
        ("bench.report.formats.write_atomically", [f"--gate-base={REPOSITORY}", "--gate-json=report.json"]),
        ("bench.pytest_benchmark_adapter.write_atomically", [f"--gate-base={REPOSITORY}", "--benchmark-save=x"]),
    ],
)
def test_a_file_that_can_no_longer_be_written_is_no_pass(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, writer: str, arguments: list[str]
) -> None:
    monkeypatch.setattr(writer, full)
    result = bench(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.outlines[-1].startswith("gate: ERROR, the disk is full")


def test_a_selected_case_without_a_result_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("a fault of the gate")

    monkeypatch.setattr("bench.suite.gate.Gate.compare", crash)
    result = bench(f"--gate-base={REPOSITORY}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "was selected and has no result" in result.outlines[-1]


def test_without_pytest_benchmark_it_is_said_what_to_load(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("-p", "no:benchmark", "-p", "bench.plugin", "--gate-base=HEAD")
    assert sentence(result) == "the gate needs pytest-benchmark, which is not loaded: add -p pytest_benchmark.plugin"


def test_the_suite_beside_the_installed_package_is_refused_in_one_sentence() -> None:
    manager: Any = SimpleNamespace(has_plugin=lambda name: name == "twinbench")
    with pytest.raises(pytest.UsageError, match=r"have the same options: add -p no:twinbench$"):
        plugin.pytest_addoption(pytest.Parser(_ispytest=True), manager)
