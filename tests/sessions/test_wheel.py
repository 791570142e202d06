"""The wheel: what it holds, and that it works with what it asks for and no file of this repository in reach.

Its plugin without a name, and its reports, are shown where the workflow for any benchmarks runs.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bench.sources.target import SUITE
from tests.conftest import lacking_all_but

from .conftest import Outcome, Repository

ASKED_FOR = ("psutil", "pytest", "pytest-benchmark")


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
    assert names == set(ASKED_FOR)


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Path:
    """A folder with what is in the wheel; nothing can be imported beside it but what it asks for."""
    place = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    (place / "sitecustomize.py").write_text(lacking_all_but(*ASKED_FOR))
    return place


def run(installed: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=installed,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_of_its_modules_is_imported_by_what_it_asks_for(installed: Path) -> None:
    files = [path.relative_to(installed).with_suffix("") for path in (installed / "twinbench").rglob("*.py")]
    # What holds tensors to a reference is imported where torch is loaded.
    modules = [".".join(path.parts).removesuffix(".__init__") for path in files if "observing" not in path.parts]
    assert "twinbench.sessions.plugin" in modules
    done = run(installed, "-c", f"import importlib\nfor name in {modules!r}: importlib.import_module(name)")
    assert done.returncode == 0, done.stderr


def test_its_commands_do_without_what_extras_bring_or_name_the_extra(installed: Path) -> None:
    shutil.copytree(SUITE / ".benchmarks", installed / ".benchmarks")
    for words, exit_code, said in (
        (["--help"], 0, "selftest"),
        (["history"], 0, "change points were not looked for"),
        (["history", "--html=x.html"], 4, "an HTML page needs jinja2, which is not installed: pip install 'twinbench"),
        (["selftest", "benchmarks"], 4, "selftest needs scipy, which is not installed: pip install 'twinbench"),
    ):
        done = run(installed, "-m", "twinbench", *words)
        assert done.returncode == exit_code, done.stderr
        assert said in done.stdout + done.stderr


def test_it_gates_a_repository_by_what_it_asks_for_where_plugins_are_named(
    installed: Path, repository: Callable[[Mapping[str, str]], Repository]
) -> None:
    test = "import m\n\ndef test_f(benchmark):\n    benchmark(m.f)\n"
    theirs = repository({"m.py": "def f():\n    return 1\n", "conftest.py": "", "benchmarks/test_f.py": test})
    named = ("-p", "pytest_benchmark.plugin", "-p", "twinbench.sessions.plugin")

    def gated(*options: str) -> Outcome:
        return theirs.pytest(
            "benchmarks", *named, *options, plugin=False, path=(str(installed),), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"
        )

    outcome = gated()
    assert outcome.exit_code == 0, outcome.output
    assert outcome.verdicts == {"test_f": "UNCHANGED"}
    refused = gated("--gate-html=page.html")
    assert refused.exit_code == 4
    assert refused.document is None  # it is refused before anything is measured
    assert "ERROR: an HTML page needs jinja2" in refused.output
