"""What surrounds a run on people's machines: plugins, names, limits, and code that is not what it seems to be."""

import importlib.util
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from bench.plain.errors import CannotDo, CannotGoOn
from bench.sessions import code
from bench.sources.target import SUITE
from bench.sources.world import World
from bench.twins.interpreter import spawn

from .conftest import Repository

Make = Callable[[Mapping[str, str]], Repository]
MODULE = "def f():\n    return {value}\n"
TEST = "import m\n\ndef test_f(benchmark):\n    benchmark(m.f)\n"


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


def test_another_fixture_in_the_place_of_pytest_benchmark_s_is_named(repository: Make) -> None:
    option = "def pytest_addoption(parser):\n    parser.addoption('--codspeed', action='store_true')\n"
    theirs = repository({"conftest.py": option, "m.py": MODULE.format(value=1), "benchmarks/test_f.py": TEST})
    outcome = theirs.pytest("--codspeed", "benchmarks")
    assert outcome.exit_code == 4, outcome.output
    assert "--codspeed takes the place of pytest-benchmark, whose calls are compared: drop it" in outcome.output


RANDOM = "import random, time\n\ndef f():\n    return {f}\n\ndef g():\n    return {g}\n"


def test_a_result_that_differs_from_run_to_run_is_no_drift_and_one_of_a_random_generator_is_compared(
    repository: Make,
) -> None:
    theirs = repository(
        {
            "conftest.py": "",
            "m.py": RANDOM.format(f="random.random()", g="time.time_ns()"),
            "benchmarks/test_f.py": TEST + "\ndef test_g(benchmark):\n    benchmark(m.g)\n",
        }
    )
    same = theirs.pytest()
    assert same.exit_code == 0, same.output
    assert "results not compared" not in same.reasons("test_f")
    assert "results not compared: the base's own differ from run to run" in same.reasons("test_g")
    theirs.write({"m.py": RANDOM.format(f="random.random() + 1", g="1")})
    assert theirs.pytest().verdicts["test_f"] == "DRIFTED"


def test_a_result_that_depends_on_the_tests_before_is_compared(repository: Make) -> None:
    module = "first = []\n\ndef f(x):\n    first.append(x)\n    return first[0] * {factor}\n"
    tests = """
        import m

        def test_one(benchmark):
            benchmark(m.f, 1)

        def test_two(benchmark):
            benchmark(m.f, 2)  # alone, it would return another value
    """
    theirs = repository({"conftest.py": "", "m.py": module.format(factor=1), "benchmarks/test_f.py": tests})
    assert set(theirs.pytest().verdicts.values()) == {"UNCHANGED"}
    theirs.write({"m.py": module.format(factor=2)})
    assert theirs.pytest().verdicts == {"test_one": "DRIFTED", "test_two": "DRIFTED"}


def test_a_pytest_plugin_that_the_base_s_package_lacks_is_left_out_there(repository: Make, tmp_path: Path) -> None:
    head, base = tmp_path / "head", tmp_path / "base"
    plugin = {"part/__init__.py": MODULE.format(value=1), "part/plugin.py": ""}
    for place, files in ((head, plugin), (base, {"part/__init__.py": MODULE.format(value=1)})):
        place.mkdir()
        Repository(place).write(files)
    entry = {
        "entry_points.txt": "[pytest11]\npart = part.plugin\n",
        "METADATA": "Metadata-Version: 2.1\nName: part\nVersion: 1\n",
    }
    Repository(head).write({f"part-1.dist-info/{name}": text for name, text in entry.items()})
    theirs = repository({"conftest.py": "", "benchmarks/test_f.py": TEST.replace("import m\n", "import part as m\n")})
    outcome = theirs.pytest(base=str(base), path=(str(SUITE), str(head)))
    assert outcome.exit_code == 0, outcome.output
    assert outcome.verdicts == {"test_f": "UNCHANGED"}


def test_a_compiled_module_is_loaded_from_a_copy_of_each_process(repository: Make, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    compiled = importlib.util.find_spec("markupsafe._speedups")
    assert compiled is not None
    assert compiled.origin is not None
    name = Path(compiled.origin).name
    (installed / name).write_bytes(Path(compiled.origin).read_bytes())
    maps = """
        import _speedups

        def test_f(benchmark):
            places = [line.split()[-1] for line in open("/proc/self/maps") if "/_speedups." in line]
            places = [place for place in places if "/markupsafe/" not in place]
            assert places
            assert all("-extensions-" in place for place in places)
            assert _speedups.__file__ == {path!r}
            benchmark(lambda: 1)
    """
    theirs = repository(
        {"conftest.py": "", "m.py": "", "benchmarks/test_f.py": maps.format(path=str(installed / name))}
    )
    outcome = theirs.pytest(base=str(installed), path=(str(SUITE), str(installed)))
    assert outcome.exit_code == 0, outcome.output


def test_help_is_shown_with_the_plugin(repository: Make) -> None:
    outcome = repository({"conftest.py": ""}).pytest("--help", base=None)
    assert outcome.exit_code == 0, outcome.output
    assert "the slowdown that must not pass (default 5%)" in outcome.output


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name")
def test_names_that_are_no_text_and_packages_without_init_are_compared(repository: Make) -> None:
    theirs = repository({"conftest.py": "", "space/part.py": MODULE.format(value=1)})
    odd = os.fsencode(theirs.path / "space") + b"/odd-\xff.dat"
    Path(os.fsdecode(odd)).write_bytes(b"1")
    theirs.commit({"benchmarks/test_f.py": TEST.replace("import m\n", "import space.part as m\n")})
    theirs.git("branch", "--force", "main")
    theirs.write({"space/part.py": MODULE.format(value=2)})
    outcome = theirs.pytest()
    assert outcome.exit_code == 1, outcome.output
    assert outcome.reasons("test_f") == "the result is 2, and 1 in the base"


def test_an_edit_of_the_same_size_and_second_is_seen(repository: Make) -> None:
    theirs = repository({"conftest.py": "", "m.py": MODULE.format(value=1), "benchmarks/test_f.py": TEST})
    path = theirs.path / "m.py"
    subprocess.run([sys.executable, "-c", "import m"], cwd=theirs.path, check=True)  # leaves bytecode
    before = path.stat()
    path.write_text(MODULE.format(value=2))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    outcome = theirs.pytest()
    assert outcome.reasons("test_f") == "the result is 2, and 1 in the base"


def test_too_few_file_descriptors_end_the_run_with_what_was_judged(repository: Make) -> None:
    theirs = repository({"conftest.py": "", "m.py": MODULE.format(value=1), "benchmarks/test_f.py": TEST})
    limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (40, 40))
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
    assert "a result of 3000009 bytes cannot be written to" in outcome.output
    assert "set TMPDIR to a place with more room" in outcome.output
    assert outcome.document is not None
