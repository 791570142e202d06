"""Every way a comparison can be impossible or senseless: exit code 4, and one sentence that says how to mend it."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.plain.errors import CannotDo

Bench = Callable[..., pytest.RunResult]
REPOSITORY = Path(__file__).parents[2]


def sentence(result: pytest.RunResult) -> str:
    """The one error line of a run that ended as a usage error."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.outlines[-5:]
    lines = [line for line in (*result.errlines, *result.outlines) if line.startswith("ERROR: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("ERROR: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--gate-base=HEAD", "--gate-threshold=0%"],
            "--gate-threshold=0%: give a percentage from 0.1% to 1000%, such as 5%",
        ),
        (["--gate-base=HEAD", "--gate-threshold=0.05"], "--gate-threshold=0.05: give a percentage from 0.1%"),
        (["--gate-base=HEAD", "--gate-threshold=nan%"], "--gate-threshold=nan%: give a percentage from 0.1%"),
        (["--gate-base=HEAD", "--gate-budget=0"], "--gate-budget=0: give a positive number of seconds, at most 86400"),
        (["--gate-base=HEAD", "--gate-budget=soon"], "--gate-budget=soon: give a positive number of seconds"),
        (["--gate-base=HEAD", "--gate-budget=nan"], "--gate-budget=nan: give a positive number of seconds"),
        (["--gate-base=HEAD", "--gate-budget=" + 400 * "9"], "9: give a positive number of seconds, at most 86400"),
        (["--gate-base=HEAD", "--gate-undecided=101%"], "--gate-undecided=101%: give 0% or a percentage from 0.1% to"),
        (["--gate-undecided=0%"], "--gate-undecided is about a comparison and none was asked for"),
        (["--tier=huge"], "--tier=huge: choose one of smoke, pr, full"),
        (["--device=tpu"], "--device=tpu: choose one of cpu, cuda, all"),
        (["--threads=0"], "--threads=0: give a whole number from 1"),
        (["--threads=two"], "--threads=two: give a whole number from 1"),
        (["--threads=10000"], "--threads=10000: give a whole number from 1 to 9999"),
        (["--shard=3/2"], "--shard=3/2: give I/N with I from 1 to N, such as 2/3"),
        (["--shard=0/2"], "--shard=0/2: give I/N"),
        (["--shard=1"], "--shard=1: give I/N"),
        (["--kernel=no.such:thing"], "--kernel=no.such:thing: it cannot be imported (ModuleNotFoundError"),
        (["--kernel=math"], "--kernel=math: it cannot be imported (AttributeError"),
        (["--kernel=math:pi"], "--kernel=math:pi: pi is not callable: name a kernel function"),
        (["--kernel=attention.oracle:sdpa"], "--kernel=attention.oracle:sdpa: it cannot be imported (AttributeError"),
        (["--source="], "--source is empty: name a package or module"),
        (["--source=no_such_package"], "no_such_package is no package or module made of files here"),
        (["--gate-json=x.json"], "--gate-json is about a comparison and none was asked for: add --benchmark-compare"),
        (["--gate-annotations"], "--gate-annotations is about a comparison and none was asked for"),
        (["--gate-threshold=5%"], "--gate-threshold is about a comparison and none was asked for"),
        (["--gate-base=HEAD", "--benchmark-compare"], "both name a base: give one of them"),
        (["--gate-base=HEAD", "--benchmark-compare-fail=min:5%"], "judges stored times, which this machine cannot"),
        (["--gate-base=HEAD", "--benchmark-disable"], "leave nothing to compare or save"),
        (["--gate-base=HEAD", "--benchmark-skip"], "leave nothing to compare or save"),
        (["--benchmark-save=x", "--benchmark-disable"], "leave nothing to compare or save"),
        (["-n2"], "timing under -n (pytest-xdist) measures the other workers: drop -n"),
        (["-n2", "--gate-base=HEAD"], "timing under -n (pytest-xdist)"),
        (["-n2", "--benchmark-save=x"], "timing under -n (pytest-xdist)"),
        (["--benchmark-compare"], "no baseline is stored in "),
        (["--benchmark-compare=0007"], "--benchmark-compare=0007 should match one baseline in "),
        (["--benchmark-compare=a/b/c"], "--benchmark-compare=a/b/c should match one baseline in "),
        (["--benchmark-compare=/no-such.json"], "--benchmark-compare=/no-such.json should match one baseline in "),
        (["--benchmark-compare=" + 5000 * "x"], "x should match one baseline in "),
        (["--gate-base=no-such"], "base 'no-such' is neither a directory nor a revision that git knows here"),
        (["--gate-base=" + 5000 * "x"], "x' is neither a directory nor a revision that git knows here"),
        (["--gate-base-python=/no/such"], "--gate-base-python=/no/such cannot be run (No such file or directory)"),
        (["--gate-base=HEAD", "--gate-base-python=/"], "--gate-base-python=/ cannot be run (Permission denied): give"),
        (["--gate-base-python=false"], "--gate-base-python=false cannot import torch (it said nothing)"),
        (["--gate-base=."], " holds no attention/__init__.py: name a directory that holds the package"),
    ],
)
def test_senseless_requests_end_in_one_sentence_and_exit_code_4(
    bench: Bench, arguments: list[str], expected: str
) -> None:
    assert expected in sentence(bench(*arguments))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--gate-base", "name a revision or a directory"),
        ("--gate-base-python", "name an interpreter"),
        ("--gate-json", "name a file"),
        ("--gate-markdown", "name a file"),
        ("--gate-html", "name a file"),
        ("--gate-pairs", "name a file"),
        ("--benchmark-compare", "name a baseline, or leave out the = for the latest"),
        ("--benchmark-storage", "name a directory"),
    ],
)
def test_an_option_that_names_nothing_is_no_pass(bench: Bench, option: str, expected: str) -> None:
    message = f"{option} is empty: {expected}"
    assert sentence(bench(f"{option}=")) == message
    assert sentence(bench(f"--gate-base={REPOSITORY}", option, "")) == message


def test_cuda_without_a_cuda_device_is_a_usage_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "--device=cuda: torch sees only cpu here" in sentence(bench("--device=cuda"))


def test_a_directory_taken_for_a_baseline_id_is_explained(bench: Bench, pytester: pytest.Pytester) -> None:
    pytester.mkdir("bench")
    message = sentence(bench("--benchmark-compare=bench"))
    assert (
        message
        == "--benchmark-compare took 'bench' as the id of a baseline: write it last, or as --benchmark-compare=ID"
    )


def test_selecting_no_case_is_no_pass(bench: Bench) -> None:
    message = "no case is left to compare: select some with bench/, -k, --tier, --device and --shard"
    assert sentence(bench(f"--gate-base={REPOSITORY}", case="no-such-case")) == message
    assert sentence(bench(f"--gate-base={REPOSITORY}", case="manual and causal")) == message  # all unsupported


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
        ("raise ValueError('broken')", "does not import (ValueError: broken)"),
        ("KERNELS = {}", "the base has no attention.KERNELS: choose a base that registers some"),
        ("KERNELS = {1: 2}", "no attribute 'capabilities': choose one whose kernels say what they support"),
        ("import os; os._exit(3)", "base ended in its own process with exit code 3"),
        ("import os; os.abort()", "base ended in its own process by signal 6 (SIGABRT)"),
    ],
)
def test_a_base_that_cannot_be_loaded_is_one_sentence(
    bench: Bench, pytester: pytest.Pytester, text: str, expected: str
) -> None:
    (pytester.mkdir("attention") / "__init__.py").write_text(text)
    assert expected in sentence(bench(f"--gate-base={pytester.path}"))


def test_a_revision_without_the_package_is_one_sentence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    commit = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit-tree", empty_tree, "-m", "empty"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    if not commit:
        pytest.skip("the repository was unpacked without git")
    assert "has no attention/: choose one that has the package" in sentence(bench(f"--gate-base={commit}"))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("{", "cannot be read"),
        pytest.param(100_000 * "[", "cannot be read", id="nested"),
        (json.dumps({"benchmarks": []}), "holds no source of attention/"),
        (json.dumps({"gate": {"schema": 9, "source_zip_base64": ""}}), "has schema 9 and this version reads 1"),
        (
            json.dumps({"gate": {"schema": 1, "source_zip_base64": base64.b64encode(b"PK").decode()}}),
            "is damaged",
        ),
    ],
)
def test_a_baseline_that_cannot_serve_is_one_sentence(
    bench: Bench, pytester: pytest.Pytester, stored: str, expected: str
) -> None:
    path = pytester.path / "0001_x.json"
    path.write_text(stored)
    assert expected in sentence(bench(f"--benchmark-compare={path}"))


def test_an_expired_waiver_is_one_sentence(
    bench: Bench, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pytester.path / "waivers.toml"
    path.write_text("[[waiver]]\ncase = 'sdpa-*'\nratio = 1.1\nreason = 'r'\nexpires = 2020-01-01\n")
    monkeypatch.setattr("bench.judging.waivers.WAIVERS", path)
    message = sentence(bench(f"--gate-base={REPOSITORY}"))
    assert message.startswith("waivers.toml, line 5: the waiver of 'sdpa-*' expired on 2020-01-01")


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ([f"--gate-base={REPOSITORY}", "--gate-json=file/report.json"], "file/report.json"),
        (["--benchmark-json=file/times.json"], "file/times.json"),
        (["--benchmark-json=."], "."),
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
        ("bench.pytest_benchmark_adapter.write_atomically", ["--benchmark-json=times.json"]),
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


@pytest.mark.parametrize(
    ("options", "environment"),
    [(("-p", "no:benchmark"), {}), ((), {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})],
)
def test_without_pytest_benchmark_it_is_said_what_to_load(
    options: tuple[str, ...], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "bench/", "--gate-base=HEAD"],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    said = "the gate needs pytest-benchmark, which is not loaded: add -p pytest_benchmark.plugin"
    assert f"ERROR: {said}" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
