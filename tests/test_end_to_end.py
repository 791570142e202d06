"""The commands as a user types them, in a copy of the repository: save, edit, compare; interrupt; add a kernel."""

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

REPOSITORY = Path(__file__).parents[1]
PARTS = ("attention", "bench", "conftest.py", "pyproject.toml")
SDPA = "sdpa-b1h4t64d32-full-fp32-cpu-fwd]"

# Each is appended to attention/sdpa.py; the first takes 20% longer than the kernel itself, on any machine.
EDITS = {
    "20% slower": """
import time

def changed(*args, **kwargs):
    start = time.perf_counter_ns()
    out = right(*args, **kwargs)
    end = start + 1.2 * (time.perf_counter_ns() - start)
    while time.perf_counter_ns() < end:
        pass
    return out
""",
    "wrong by 1%": """
def changed(*args, **kwargs):
    return 1.01 * right(*args, **kwargs)
""",
}
REPLACE = """
from .registry import KERNELS, Kernel
right = sdpa.function
KERNELS["sdpa"] = Kernel("sdpa", changed, sdpa.capabilities)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository's code, committed to a git repository of its own."""
    root = tmp_path / "copy"
    root.mkdir()
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root)
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "copy"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)
    return root


def command(*arguments: str, case: str = SDPA) -> list[str]:
    return [sys.executable, "-m", "pytest", "bench/", "--tier=smoke", "-q", "-k", case, *arguments]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHONPATH"))}


def run(copy: Path, *arguments: str, case: str = SDPA) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, case=case), cwd=copy, env=environment(), capture_output=True, text=True, check=False
    )


def edit(copy: Path, name: str) -> None:
    path = copy / "attention" / "sdpa.py"
    path.write_text(path.read_text() + EDITS[name] + REPLACE)


def closing(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.rstrip().rpartition("\n")[2]


def test_saving_editing_and_comparing_catches_the_edit(copy: Path) -> None:
    saved = run(copy, "--benchmark-save=before", "--benchmark-max-time=0.05")
    assert saved.returncode == 0, saved.stdout
    unchanged = run(copy, "--benchmark-compare")
    assert unchanged.returncode == 0, unchanged.stdout
    edit(copy, "wrong by 1%")
    changed = run(copy, "--benchmark-compare")
    assert changed.returncode == 1, changed.stdout
    assert "1 DRIFTED" in closing(changed)


def test_a_kernel_made_slower_fails_and_the_same_code_passes(copy: Path) -> None:
    same = run(copy, "--gate-base=HEAD")
    assert same.returncode == 0, same.stdout
    edit(copy, "20% slower")
    slower = run(copy, "--gate-base=HEAD", "--gate-json=report.json")
    assert slower.returncode == 1, slower.stdout
    assert "1 REGRESSED" in closing(slower)
    assert "confirmed on fresh inputs" in closing(slower)
    (case,) = json.loads((copy / "report.json").read_text())["cases"]
    assert case["verdict"] == "REGRESSED"
    assert case["ci"][0] > 1.025  # certain to be more than half the threshold


def test_a_new_kernel_is_one_new_file(copy: Path) -> None:
    text = (copy / "attention" / "manual.py").read_text()
    (copy / "attention" / "another.py").write_text(text.replace('"manual"', '"another"'))
    done = run(copy, "--gate-base=HEAD", case="b1h4t64d32 and (another or manual) and full and fwd]")
    assert done.returncode == 0, done.stdout
    assert "1 NEW, 1 UNCHANGED" in closing(done)


def test_outputs_alone_are_checked_in_parallel_and_only_a_wrong_one_fails(copy: Path) -> None:
    edit(copy, "wrong by 1%")
    done = run(copy, "--benchmark-disable", "-n2", case="(sdpa- or masked-) and t64d32-full and fwd]")
    assert done.returncode == 1, done.stdout
    assert "is over its budget" in done.stdout
    (failed,) = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert SDPA in failed
    assert "1 failed, 1 passed" in done.stdout


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let processes started here be interrupted, even where a shell in the background keeps that from its own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_no_file_behind(copy: Path, sign: signal.Signals) -> None:
    endless = ("--gate-threshold=0.1%", "--gate-budget=60", "-vv")
    arguments = command("--gate-base=HEAD", "--benchmark-save=stopped", "--gate-json=report.json", *endless)
    with subprocess.Popen(arguments, cwd=copy, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = ""
        while "test_attention[" not in seen:
            character = process.stdout.read(1)
            assert character, seen  # the run ended before it began
            seen += character
        time.sleep(1)  # until it measures, which it does for a minute
        process.send_signal(sign)
        rest = process.stdout.read()
    assert process.returncode == (2 if sign is signal.SIGINT else -sign)
    assert not list(copy.rglob("*.json"))
    if sign is signal.SIGINT:
        assert "gate: ERROR, the run did not finish, so there is no verdict; no baseline was saved" in rest
