"""The wheel: what it holds, and that it works without torch where no file of this repository is in reach.

Its plugin without a name, and its reports, are shown where the workflow for any benchmarks runs.
"""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bench.sources.target import SUITE

from .conftest import Repository


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("wheel")
    copy = into / "suite"
    parts = ("bench", "pyproject.toml", "README.md", "LICENSE")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *parts],
        cwd=SUITE,
        check=True,
        capture_output=True,
    )
    for name in filter(None, os.fsdecode(tracked.stdout).split("\0")):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((SUITE / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(into), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = into.glob("*.whl")
    return built


def test_it_holds_one_package_and_asks_for_no_torch(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
        metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    assert {top for top in tops if not top.endswith(".dist-info")} == {"twinbench"}
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra" not in line]
    names = {line.partition(": ")[2].partition(">")[0] for line in required}
    assert names == {"psutil", "pytest", "pytest-benchmark"}


def test_each_of_its_modules_is_imported_without_torch(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
        files = [name for name in archive.namelist() if name.endswith(".py")]
    files = [name for name in files if "/observing/" not in name]  # what holds tensors of torch to a reference
    modules = [name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in files]
    assert "twinbench.sessions.plugin" in modules
    code = f"""import importlib, sys, scipy.stats
sys.modules["torch"] = None
for name in {modules!r}: importlib.import_module(name)"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_it_gates_a_repository_without_torch_where_plugins_are_named(
    wheel: Path, repository: Callable[[Mapping[str, str]], Repository], tmp_path: Path
) -> None:
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    Repository(installed).write({"torch/__init__.py": "raise ImportError('there is no torch')\n"})
    test = "import m\n\ndef test_f(benchmark):\n    benchmark(m.f)\n"
    theirs = repository({"m.py": "def f():\n    return 1\n", "conftest.py": "", "benchmarks/test_f.py": test})
    named = ("-p", "pytest_benchmark.plugin", "-p", "twinbench.sessions.plugin")
    outcome = theirs.pytest(
        "benchmarks", *named, plugin=False, PYTHONPATH=str(installed), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"
    )
    assert outcome.exit_code == 0, outcome.output
    assert outcome.verdicts == {"test_f": "UNCHANGED"}
