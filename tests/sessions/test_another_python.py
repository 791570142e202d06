"""A base under another interpreter, whose sessions are not forked from the head's image."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.sources.target import SUITE
from tests.conftest import lacking_all_but

from .conftest import Make


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Make an interpreter that has its own package ``m``, pytest and pytest-benchmark from here, and nothing else."""
    place = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "here.pth").write_text(f"{here}\n")
    (packages / "sitecustomize.py").write_text(lacking_all_but("pytest", "pytest-benchmark"))
    (packages / "m.py").write_text("def f():\n    return [3]\n")
    return place / "bin" / "python"


def test_a_package_is_each_interpreter_s_own(repository: Make, python: Path, tmp_path: Path) -> None:
    theirs = repository(
        {
            "benchmarks/test_f.py": """
                import m
                import pytest
                import sys

                def test_f(benchmark):
                    benchmark(m.f)

                def test_same(benchmark):
                    benchmark(lambda: [len(m.f())])

                @pytest.mark.skipif(m.f() == [3], reason="needs another version")
                def test_of_a_later_version(benchmark):
                    benchmark(m.f)
            """
        }
    )
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "m.py").write_text("def f():\n    return [4]\n")
    outcome = theirs.pytest(
        "benchmarks",
        f"--gate-base-python={python}",
        "--gate-budget=0.1",  # one pair of processes, which decides nothing
        "--gate-undecided=100%",
        base=None,
        path=(str(SUITE), str(installed)),
    )
    assert outcome.exit_code == 1, outcome.output
    assert "the result[0] is 4, and 3 in the base" in outcome.output
    assert "each of which is one pair in the table" in outcome.output
    assert "1 DRIFTED, 1 INCONCLUSIVE, 1 NEW" in outcome.output
    assert f"base: working tree under {python} (Python {'.'.join(map(str, sys.version_info[:3]))})" in outcome.output


def test_an_interpreter_without_pytest_is_refused(repository: Make, python: Path) -> None:
    (pth,) = python.parents[1].glob("lib/python*/site-packages/here.pth")
    pth.unlink()
    theirs = repository({"benchmarks/test_f.py": "def test_f(benchmark):\n    benchmark(lambda: 1)\n"})
    outcome = theirs.pytest("benchmarks", f"--gate-base-python={python}", base=None)
    assert outcome.exit_code == 4
    assert "cannot import pytest and pytest_benchmark (ModuleNotFoundError: No module named 'pytest')" in outcome.output
