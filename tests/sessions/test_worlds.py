"""Which code each side of a session runs, and what is refused."""

import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from .conftest import Repository

Make = Callable[[Mapping[str, str]], Repository]

SUM = "def f():\n    return {}\n"
TEST = """
    import {module} as m

    def test_f(benchmark):
        benchmark(m.f)
"""


def drifted(theirs: Repository, base: str = "main") -> str:
    outcome = theirs.pytest(base=base)
    assert outcome.exit_code == 1, outcome.output
    assert outcome.verdicts == {"test_f": "DRIFTED"}, outcome.output
    return outcome.reasons("test_f")


def test_a_flat_layout_is_found_from_the_root_s_conftest(repository: Make) -> None:
    theirs = repository(
        {"m/__init__.py": SUM.format(1), "conftest.py": "", "benchmarks/test_f.py": TEST.format(module="m")}
    )
    theirs.write({"m/__init__.py": SUM.format(2)})
    assert drifted(theirs) == "the result is 2, and 1 in the base"


def test_a_package_that_moves_into_src_is_found_in_both(repository: Make) -> None:
    configured = "[tool.pytest.ini_options]\npythonpath = ['.', 'src']\n"
    theirs = repository(
        {"m/__init__.py": SUM.format(1), "pyproject.toml": configured, "benchmarks/test_f.py": TEST.format(module="m")}
    )
    shutil.rmtree(theirs.path / "m")
    theirs.commit({"src/m/__init__.py": SUM.format(2)})
    assert drifted(theirs) == "the result is 2, and 1 in the base"


def test_helper_modules_and_data_files_are_each_side_s_own(repository: Make) -> None:
    reading = """
        from pathlib import Path
        from helper import more

        def f():
            return Path("data.txt").read_text() + more()
    """
    theirs = repository(
        {
            "m/__init__.py": reading,
            "conftest.py": "",
            "helper.py": "def more():\n    return 'a'\n",
            "data.txt": "1",
            "benchmarks/test_f.py": TEST.format(module="m"),
        }
    )
    theirs.write({"helper.py": "def more():\n    return 'b'\n", "data.txt": "2"})
    assert drifted(theirs) == "the result is '2b', and '1a' in the base"


def test_a_new_test_brings_the_helper_that_it_needs(repository: Make) -> None:
    theirs = repository(
        {"m/__init__.py": SUM.format(1), "conftest.py": "", "benchmarks/test_f.py": TEST.format(module="m")}
    )
    theirs.write(
        {
            "benchmarks/common.py": "ARGUMENT = 3\n",
            "benchmarks/test_g.py": "import m\nimport common\n\ndef test_g(benchmark):\n    benchmark(m.f)\n",
        }
    )
    outcome = theirs.pytest()
    assert outcome.exit_code == 0, outcome.output
    assert outcome.verdicts == {"test_f": "UNCHANGED", "test_g": "UNCHANGED"}


def test_a_base_that_is_a_directory_comes_first_on_the_path(repository: Make) -> None:
    theirs = repository(
        {"m/__init__.py": SUM.format(2), "conftest.py": "", "benchmarks/test_f.py": TEST.format(module="m")}
    )
    release = theirs.path.parent / "release"
    Repository(release).write({"m/__init__.py": SUM.format(1)})
    assert drifted(theirs, base=str(release)) == "the result is 2, and 1 in the base"


def test_a_stale_copy_that_is_installed_elsewhere_is_refused_with_both_paths(repository: Make) -> None:
    theirs = repository({"src/m/__init__.py": SUM.format(1), "benchmarks/test_f.py": TEST.format(module="m")})
    installed = theirs.path.parent / "installed"
    Repository(installed).write({"m/__init__.py": SUM.format(1)})
    theirs.write({"src/m/__init__.py": SUM.format(2)})
    outcome = theirs.pytest(PYTHONPATH=f"{installed}:{sys.path[0]}:{_suite()}")
    assert outcome.exit_code == 4, outcome.output
    assert f"imports m from {installed / 'm'}" in outcome.output
    assert f"{theirs.path / 'src'} has its own" in outcome.output


def _suite() -> str:
    from bench.sources.target import SUITE  # noqa: PLC0415  # the path under which the plugin is found

    return str(SUITE)


def test_a_merge_base_is_compared_where_main_has_gone_on(repository: Make) -> None:
    theirs = repository(
        {"m/__init__.py": SUM.format(1), "conftest.py": "", "benchmarks/test_f.py": TEST.format(module="m")}
    )
    theirs.commit({"m/other.py": ""})
    theirs.git("checkout", "--quiet", "main")
    theirs.commit({"m/__init__.py": SUM.format(2)})
    theirs.git("checkout", "--quiet", "change")
    assert theirs.pytest(base="main...").exit_code == 0
    outcome = theirs.pytest(base="main")
    assert outcome.exit_code == 1
    assert "main is not an ancestor of HEAD" in outcome.output


@pytest.mark.parametrize(
    ("arguments", "base", "said"),
    [
        (("benchmarks/test_plain.py",), "main", "no test uses the benchmark fixture"),
        (("benchmarks",), "nowhere", "base 'nowhere' is neither a directory nor a revision"),
        (("benchmarks",), "", "--gate-base is empty: name a revision or a directory"),
        (("benchmarks", "-n2"), "main", "timing under -n"),
        (("benchmarks", "--benchmark-disable"), "main", "leave nothing to compare"),
        (("benchmarks", "--benchmark-save=x"), "main", "two kinds of comparison"),
        (("benchmarks", "--gate-threshold=x"), "main", "--gate-threshold=x"),
        (("benchmarks", "-p", "no:benchmark"), "main", "which is not loaded: add -p pytest_benchmark.plugin"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(
    repository: Make, arguments: tuple[str, ...], base: str, said: str
) -> None:
    theirs = repository(
        {
            "m/__init__.py": SUM.format(1),
            "conftest.py": "",
            "benchmarks/test_f.py": TEST.format(module="m"),
            "benchmarks/test_plain.py": "def test_plain():\n    pass\n",
        }
    )
    outcome = theirs.pytest(*arguments, base=base, autoload=True)
    assert outcome.exit_code == 4, outcome.output
    assert said in outcome.output
    assert "Traceback" not in outcome.output


def test_a_base_that_cannot_collect_anything_is_no_comparison(repository: Make) -> None:
    theirs = repository(
        {"m/__init__.py": "import no_such_module\n", "conftest.py": "", "benchmarks/test_f.py": TEST.format(module="m")}
    )
    theirs.write({"m/__init__.py": SUM.format(2)})
    outcome = theirs.pytest()
    assert outcome.exit_code == 4, outcome.output
    assert outcome.verdicts == {"test_f": "NEW"}
    assert "No module named 'no_such_module'" in outcome.reasons("test_f")
    assert "nothing was compared" in outcome.output


def test_a_head_that_cannot_be_collected_has_no_verdict(repository: Make) -> None:
    theirs = repository(
        {"m/__init__.py": SUM.format(1), "conftest.py": "", "benchmarks/test_f.py": TEST.format(module="m")}
    )
    theirs.write({"m/__init__.py": "import no_such_module\n"})
    outcome = theirs.pytest()
    assert outcome.exit_code not in (0, 1), outcome.output
    assert "gate: ERROR" in outcome.output


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_run_that_the_system_ends_leaves_nothing_behind(repository: Make, number: str) -> None:
    ending = f"""
        import os
        import signal
        import time

        def test_ended(benchmark):
            benchmark(lambda: None)
            os.kill(int(os.environ["RUN"]), signal.{number})
            time.sleep(10)
    """
    marked = "import os\nos.environ.setdefault('RUN', str(os.getpid()))\n"
    theirs = repository({"conftest.py": marked, "benchmarks/test_ended.py": ending})
    with TemporaryDirectory() as temporary:  # short enough for a socket
        heard = partial(signal.signal, getattr(signal, number), signal.SIG_DFL)  # whoever runs the tests may ignore it
        outcome = theirs.pytest(TMPDIR=temporary, preexec=heard)
        assert outcome.exit_code == 2, outcome.output
        assert "gate: ERROR, the run did not finish, so there is no verdict" in outcome.output
        assert "Traceback" not in outcome.output
        assert not list(Path(temporary).glob("twinbench-*"))


def test_a_place_for_temporary_files_that_is_too_long_for_a_socket_is_named(repository: Make, tmp_path: Path) -> None:
    theirs = repository({"benchmarks/test_f.py": "def test_f(benchmark):\n    benchmark(lambda: 1)\n"})
    temporary = tmp_path / ("x" * 100)
    temporary.mkdir()
    outcome = theirs.pytest(TMPDIR=str(temporary))
    assert outcome.exit_code == 4, outcome.output
    assert f"no socket can be made in {temporary}" in outcome.output
    assert "set TMPDIR to a shorter path" in outcome.output


def test_without_a_base_the_plugin_does_nothing(repository: Make) -> None:
    theirs = repository(
        {"m/__init__.py": SUM.format(1), "conftest.py": "", "benchmarks/test_f.py": TEST.format(module="m")}
    )
    outcome = theirs.pytest("benchmarks", base=None)
    assert outcome.exit_code == 0
    assert "gate:" not in outcome.output
    assert "1 benchmark" in outcome.output or "test_f" in outcome.output
    lone = theirs.pytest("benchmarks", "--gate-threshold=2%", base=None)
    assert lone.exit_code == 4
    assert "--gate-threshold is about a comparison and none was asked for" in lone.output
