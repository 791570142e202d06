"""What surrounds a run on people's machines: plugins, names, limits, and code that is not what it seems to be."""

import importlib.util
import resource
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

from bench.plain.errors import CannotDo, CannotGoOn
from bench.sessions import code
from bench.sources.target import SUITE
from bench.sources.world import World
from bench.twins.interpreter import spawn

from .conftest import MODULE, TEST, Make, Repository


def test_code_that_no_test_imports_is_no_comparison(repository: Make, tmp_path: Path) -> None:
    alone = "def test_f(benchmark):\n    benchmark(sum, [1])\n"
    theirs = repository({"m.py": MODULE.format(value=1), "benchmarks/test_f.py": alone})
    outcome = theirs.pytest()
    assert outcome.exit_code == 4, outcome.output
    assert "gate: ERROR, no test has imported any module of revision main (" in outcome.output
    assert "so base and head ran the same code: install the package that is measured" in outcome.output
    empty = tmp_path / "empty"
    empty.mkdir()
    theirs.write({"benchmarks/test_f.py": TEST, "conftest.py": ""})
    outcome = theirs.pytest(base=str(empty))
    assert outcome.exit_code == 4, outcome.output
    assert f"no test has imported any module of {empty}" in outcome.output


def test_options_of_other_plugins_are_theirs_and_a_coverage_tracer_is_on_neither_side(repository: Make) -> None:
    theirs = repository(
        {
            "conftest.py": """
                def pytest_addoption(parser):
                    for name in ("--device", "--tier", "--threads", "--shard", "--kernel", "--source"):
                        parser.addoption(name, default="theirs")
            """,
            "m.py": "import sys\n\ndef f():\n    return sys.gettrace() is None\n",
            "benchmarks/test_f.py": """
                import m

                def test_f(benchmark, request):
                    assert request.config.getoption("--device") == "cpu"
                    assert benchmark(m.f)
            """,
        }
    )
    traced = ("--cov=m",) if importlib.util.find_spec("pytest_cov") else ()
    outcome = theirs.pytest("benchmarks", "--device=cpu", *traced, autoload=True)
    assert outcome.exit_code == 0, outcome.output
    assert outcome.verdicts == {"test_f": "UNCHANGED"}
    assert "gate: PASS" in outcome.output
    assert "(identical source)" in outcome.output


ENTRY = {
    "entry_points.txt": "[pytest11]\npart = part.plugin\n",
    "METADATA": "Metadata-Version: 2.1\nName: part\nVersion: 1\n",
}
COMPILED = """
    import _speedups

    def test_compiled(benchmark):
        places = [line.split()[-1] for line in open("/proc/self/maps") if "/_speedups." in line]
        places = [place for place in places if "/markupsafe/" not in place]
        assert places
        assert all("-extensions-" in place for place in places)
        assert _speedups.__file__ in {paths!r}
        benchmark(lambda: 1)
"""


def test_a_base_that_is_a_directory_has_its_own_modules_compiled_ones_and_pytest_plugins(
    repository: Make, tmp_path: Path
) -> None:
    compiled = importlib.util.find_spec("markupsafe._speedups")
    assert compiled is not None
    assert compiled.origin is not None
    places = {side: tmp_path / side for side in ("head", "base")}
    for place in places.values():
        Repository(place).write({"part/__init__.py": MODULE.format(value=1), "m.py": MODULE.format(value=1)})
        shutil.copy(compiled.origin, place)
    plugin = {f"part-1.dist-info/{name}": text for name, text in ENTRY.items()}
    Repository(places["head"]).write({"part/plugin.py": "", "m.py": MODULE.format(value=2), **plugin})
    paths = {str(place / Path(compiled.origin).name) for place in places.values()}
    theirs = repository(
        {
            "conftest.py": "",
            "benchmarks/test_f.py": TEST,
            "benchmarks/test_part.py": "import part\n\ndef test_part(benchmark):\n    benchmark(part.f)\n",
            "benchmarks/test_compiled.py": COMPILED.format(paths=paths),
        }
    )
    outcome = theirs.pytest(base=str(places["base"]), path=(str(SUITE), str(places["head"])), autoload=True)
    assert outcome.exit_code == 1, outcome.output
    assert outcome.verdicts == {"test_f": "DRIFTED", "test_part": "UNCHANGED", "test_compiled": "UNCHANGED"}
    assert outcome.reasons("test_f").startswith("the result is 2, and 1 in the base")


def test_too_few_file_descriptors_end_the_run_with_what_was_judged(repository: Make) -> None:
    theirs = repository({"conftest.py": "", "m.py": MODULE.format(value=1), "benchmarks/test_f.py": TEST})
    limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (24, 24))
    outcome = theirs.pytest("benchmarks", f"--gate-base-python={sys.executable}", "--gate-budget=60", preexec=limit)
    assert outcome.exit_code == 4, outcome.output
    assert "no more processes can be started (Too many open files): raise ulimit -n" in outcome.output
    assert outcome.verdicts == {"test_f": "ERROR"}
    assert "Traceback" not in outcome.output


def test_a_process_that_cannot_be_started_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotGoOn, match=r"^no more processes can be started \(No such file or directory\): raise"):
        spawn(str(tmp_path / "none"), "base", tmp_path, "none")


def test_a_place_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    (tmp_path / "test_f.py").touch()
    world = World(tmp_path, repository=tmp_path, checkout=tmp_path / "checkout")
    with pytest.raises(CannotDo, match=r"cannot be written \(No space left on device\): set TMPDIR to a place with m"):
        code.lay_over([tmp_path / "test_f.py"], None, world)


def test_a_result_for_which_there_is_no_room_ends_the_run(repository: Make) -> None:
    large = "def test_f(benchmark):\n    benchmark(lambda: b'x' * 3_000_000)\n"
    theirs = repository({"conftest.py": "", "m.py": "", "benchmarks/test_f.py": "import m\n\n" + large})
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    outcome = theirs.pytest(preexec=limit)
    assert outcome.exit_code == 4, outcome.output
    assert " bytes cannot be written to" in outcome.output
    assert "set TMPDIR to a place with more room" in outcome.output
    assert outcome.document is not None


def test_benchmarks_of_pytest_codspeed_without_the_fixture_are_counted(repository: Make) -> None:
    registered = "import types\n\ndef pytest_configure(config):\n    plugin = types.ModuleType('codspeed')\n"
    registered += "    config.pluginmanager.register(plugin, 'codspeed')\n"
    marked = "import pytest\n\n@pytest.mark.benchmark\ndef test_marked():\n    pass\n"
    theirs = repository({"conftest.py": registered, "m.py": MODULE.format(value=1), "test_f.py": TEST + marked})
    outcome = theirs.pytest(".")
    assert outcome.exit_code == 0, outcome.output
    said = "warning: 1 benchmark of pytest-codspeed is not compared, such as test_f.py::test_marked: let them call the"
    assert said in outcome.output


RAISING_PLUGIN = """
    import pytest

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport():
        yield
        raise TypeError("such a benchmark is not known")
"""


def test_a_plugin_that_raises_is_named_by_its_own_error_in_each_test(repository: Make) -> None:
    settings = "[tool.pytest.ini_options]\nfilterwarnings = 'error'\n"
    tests = {f"test_{name}.py": "def test_it(benchmark):\n    benchmark(int)\n" for name in "abc"}
    theirs = repository({"pyproject.toml": settings, "conftest.py": RAISING_PLUGIN, **tests})
    outcome = theirs.pytest(".")
    assert outcome.exit_code == 1, outcome.output
    for name in "abc":
        assert (
            f"test_{name}.py::test_it: ERROR\n  head failed in pytest, or in a plugin of it: TypeError: such a"
            in outcome.output
        )
