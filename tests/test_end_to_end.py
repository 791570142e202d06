"""The commands as a user types them, in a copy of the repository: edit, compare; interrupt.

Each is a process of its own, so there are few of them: what a run does is shown in this process, in ``plugin/``.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import git

REPOSITORY = Path(__file__).parents[1]
PARTS = (".gitignore", "attention", "bench", "conftest.py", "pyproject.toml")
SDPA = "sdpa-b1h4t64d32-full-fp32-cpu-fwd]"

# A benchmark of one's own beside the suite's: gated as any other.
COUNTING = "def count(n: int = 20000) -> int:\n    return sum(range(n)) + {more}\n"
PLAIN = "from attention.counting import count\n\ndef test_plain(benchmark):\n    benchmark(count)\n"

# Appended to the file of each kernel. One takes three times as long as the kernel itself, on any machine, so that it is
# judged without a replication; another is wrong by 1%, and twice as slow, so that its time is certain soon.
EDITS = {
    "sdpa": """
import time

def changed(*args, **kwargs):
    start = time.perf_counter_ns()
    out = right(*args, **kwargs)
    end = start + 3 * (time.perf_counter_ns() - start)
    while time.perf_counter_ns() < end:
        pass
    return out
""",
    "masked": """
def changed(*args, **kwargs):
    right(*args, **kwargs)
    return 1.01 * right(*args, **kwargs)
""",
}
REPLACE = """
from .registry import KERNELS, Kernel
right = {0}.function
KERNELS["{0}"] = Kernel("{0}", changed, {0}.capabilities)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository's code, committed to a git repository of its own."""
    root = tmp_path / "copy"
    root.mkdir()
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, root / part)  # with its bytecode, which saves a second
        else:
            shutil.copy(source, root)
    (root / "attention" / "counting.py").write_text(COUNTING.format(more=0))
    (root / "bench" / "test_plain.py").write_text(PLAIN)
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "copy"]):
        git(root, *arguments)
    return root


def command(*arguments: str, case: str = SDPA) -> list[str]:
    return [sys.executable, "-m", "pytest", "bench/", "--tier=smoke", "-q", "-k", case, *arguments]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHONPATH"))}


def run(copy: Path, *arguments: str, case: str = SDPA) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, case=case), cwd=copy, env=environment(), capture_output=True, text=True, check=False
    )


def edit(copy: Path) -> None:
    """Make one kernel slower, and one and a function wrong, and add a file with a new kernel."""
    for name, text in EDITS.items():
        path = copy / "attention" / f"{name}.py"
        path.write_text(path.read_text() + text + REPLACE.format(name))
    manual = (copy / "attention" / "manual.py").read_text()
    (copy / "attention" / "another.py").write_text(manual.replace('"manual"', '"another"'))
    (copy / "attention" / "counting.py").write_text(COUNTING.format(more=1))


def closing(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.rstrip().rpartition("\n")[2]


def test_of_an_edited_package_the_slower_the_wrong_and_the_new_kernel_are_told(copy: Path) -> None:
    cases = "(sdpa or masked or manual or another) and b1h4t64d32-full-fp32-cpu-fwd] or test_plain"
    edit(copy)
    edited = run(copy, "--gate-json=report.json", "--gate-base=HEAD", "--gate-threshold=20%", case=cases)
    assert edited.returncode == 1, edited.stdout
    report = json.loads((copy / "report.json").read_text())
    found = {case["id"].partition("-")[0]: case for case in report["cases"]}
    assert {name: case["verdict"] for name, case in found.items()} == {
        "manual": "UNCHANGED",
        "another": "NEW",
        "sdpa": "REGRESSED",
        "masked": "DRIFTED",
        "bench/test_plain.py::test_plain": "DRIFTED",
    }
    assert "1 REGRESSED" in closing(edited)
    assert "2 DRIFTED" in closing(edited)
    assert any("confirmed by new twins" in reason for reason in found["sdpa"]["reasons"])
    assert found["sdpa"]["ci"][0] > 1.1  # certain to be more than half the threshold


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let processes started here be interrupted, even where a shell in the background keeps that from its own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_run_that_is_stopped_leaves_no_file_behind(copy: Path) -> None:
    endless = ("--gate-threshold=0.1%", "--gate-budget=60", "-vv")
    arguments = command("--gate-base=HEAD", "--benchmark-save=stopped", "--gate-json=report.json", *endless)
    with subprocess.Popen(arguments, cwd=copy, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = ""
        while "test_attention[" not in seen:
            character = process.stdout.read(1)
            assert character, seen  # the run ended before it began
            seen += character
        time.sleep(0.3)  # until it measures, which it does for a minute
        killed_now = list(copy.rglob("*.json"))
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert killed_now == []  # what a process that is killed leaves is what there was
    assert process.returncode == 2
    assert not list(copy.rglob("*.json"))
    assert "gate: ERROR, the run did not finish, so there is no verdict; no baseline was saved" in rest
