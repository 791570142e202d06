"""Which code each side of a session runs, and what is refused."""

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from bench.plain.errors import CannotDo
from bench.sessions import code
from bench.sources.target import SUITE

from .conftest import TEST, Make, Repository

SUM = "def f():\n    return {}\n"
FLAT = {"m/__init__.py": SUM.format(1), "conftest.py": "", "benchmarks/test_f.py": TEST}


def test_a_stale_copy_that_is_installed_elsewhere_is_refused_with_both_paths(repository: Make) -> None:
    theirs = repository({"src/m/__init__.py": SUM.format(1), "benchmarks/test_f.py": TEST})
    installed = theirs.path.parent / "installed"
    Repository(installed).write({"m/__init__.py": SUM.format(1)})
    theirs.write({"src/m/__init__.py": SUM.format(2)})
    outcome = theirs.pytest(path=(str(installed), str(SUITE)))
    assert outcome.exit_code == 4, outcome.output
    assert f"imports m from {installed / 'm'}" in outcome.output
    assert f"{theirs.path / 'src'} has its own" in outcome.output


def test_a_merge_base_is_where_the_head_left_a_main_that_has_gone_on(repository: Make, tmp_path: Path) -> None:
    theirs = repository(FLAT)
    theirs.commit({"m/other.py": ""})
    theirs.git("checkout", "--quiet", "main")
    theirs.commit({"m/__init__.py": SUM.format(2)})
    theirs.git("checkout", "--quiet", "change")
    for name, value, warned in (("main...", 1, 0), ("main", 2, 1)):
        found, warnings = code.of_name(theirs.path, name, tmp_path / name)
        assert found.world.checkout is not None
        assert (found.world.checkout / "m/__init__.py").read_text() == SUM.format(value)
        assert len(warnings) == warned
    assert "--gate-base=main... compares with the commit where HEAD left it" in warnings[0]


def test_the_head_s_tests_replace_links_of_the_base_and_nothing_that_they_lead_to(
    repository: Make, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("")
    theirs = repository({"m.py": SUM.format(1), "shared/test_f.py": TEST})
    (theirs.path / "tests").symlink_to("shared")
    for name, target in (("conftest.py", "../m.py"), ("test_g.py", str(outside))):
        (theirs.path / "shared" / name).symlink_to(target)
    theirs.commit({})
    (theirs.path / "shared/test_g.py").unlink()
    theirs.write({"m.py": SUM.format(2), "shared/test_g.py": TEST})
    found, _ = code.of_name(theirs.path, "HEAD", tmp_path / "scratch")
    tests = [theirs.path / "tests" / name for name in ("test_f.py", "test_g.py")]
    code.lay_over(tests, None, found.world)
    checkout = found.world.checkout
    assert checkout is not None
    assert outside.read_text() == ""
    assert (checkout / "m.py").read_text() == SUM.format(1)
    assert (checkout / "tests/conftest.py").read_text() == SUM.format(2)
    assert (checkout / "tests/test_g.py").read_text() == TEST
    assert code.moved(tests[0], found.world) == checkout / "tests/test_f.py"


def test_large_data_beside_tests_is_a_link(repository: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = repository({**FLAT, ".gitignore": "*.dat\n"})
    theirs.write({"benchmarks/small.dat": "1", "benchmarks/large.dat": "1" * 100})
    found, _ = code.of_name(theirs.path, "HEAD", tmp_path / "scratch")
    monkeypatch.setattr(code, "LARGEST_COPY", 10)
    code.lay_over([theirs.path / "benchmarks/test_f.py"], None, found.world)
    assert found.world.checkout is not None
    links = {path.name: path.is_symlink() for path in (found.world.checkout / "benchmarks").glob("*.dat")}
    assert links == {"small.dat": False, "large.dat": True}


@pytest.mark.parametrize("beside", [{}, {"fast/__init__.pyi": ""}], ids=["alone", "beside-its-stubs"])
def test_a_compiled_module_that_git_ignores_is_not_left_out_of_the_base(
    repository: Make, beside: dict[str, str]
) -> None:
    fast = f"fast{EXTENSION_SUFFIXES[0]}"
    with_fallback = "try:\n    import fast\nexcept ImportError:\n    pass\n\n" + SUM.format(1)
    theirs = repository({**FLAT, ".gitignore": f"{fast}\n", "m/__init__.py": with_fallback, **beside})
    (theirs.path / fast).touch()
    outcome = theirs.pytest()
    assert outcome.exit_code == 4, outcome.output
    assert f"{theirs.path / fast} was built in the repository, and git ignores it, so the base has no" in outcome.output


def test_what_git_does_not_track_counts_as_code_if_python_imports_it(repository: Make) -> None:
    theirs = repository(FLAT)
    before = code.of_disk(theirs.path).sha256
    theirs.write({"report.json": "{}"})
    assert code.of_disk(theirs.path).sha256 == before
    theirs.write({"new.py": ""})
    assert code.of_disk(theirs.path).sha256 != before


def test_a_directory_above_the_repository_and_a_branch_that_is_named_like_a_file_are_told_apart(
    repository: Make, tmp_path: Path
) -> None:
    theirs = repository(FLAT)
    theirs.git("branch", "feature.json")
    with pytest.raises(CannotDo, match="holds the repository .* itself: name the folder that holds the base's package"):
        code.of_name(theirs.path, str(theirs.path.parent), tmp_path / "scratch")
    found, _ = code.of_name(theirs.path, "feature.json", tmp_path / "scratch")
    assert found.origin.startswith("revision feature.json")


def test_a_base_of_the_same_source_that_cannot_run_a_test_is_no_older_one(repository: Make) -> None:
    filled = """
        import m

        def test_fill():
            m.values = [1]

        def test_f(benchmark):
            benchmark(lambda: m.values)
    """
    outcome = repository({**FLAT, "benchmarks/test_f.py": filled}).pytest()
    assert outcome.verdicts == {"test_f": "ERROR"}
    assert "has no attribute 'values', though base and head are the same source" in outcome.reasons("test_f")


def test_what_the_settings_and_hooks_of_both_sides_leave_out_is_not_missing(repository: Make) -> None:
    hook = """
        def pytest_collection_modifyitems(config, items):
            if not config.option.keyword:
                items[:] = [item for item in items if "other" not in item.name]
    """
    settings = "[tool.pytest.ini_options]\naddopts = \"-m 'not slow'\"\nmarkers = ['slow']\n"
    slow = "\nimport pytest\n\n@pytest.mark.slow\ndef test_slow(benchmark):\n    benchmark(m.f)\n"
    other = "\ndef test_other(benchmark):\n    benchmark(m.f)\n"
    theirs = repository(
        {**FLAT, "pyproject.toml": settings, "conftest.py": hook, "benchmarks/test_f.py": TEST + slow + other}
    )
    for selecting, found in (((), {"test_f"}), (("-vk", "other"), {"test_other"}), (("-m", "slow"), {"test_slow"})):
        outcome = theirs.pytest("benchmarks", *selecting)
        assert outcome.verdicts == dict.fromkeys(found, "UNCHANGED"), outcome.output


def test_own_tests_of_the_base_and_files_of_the_head_that_cannot_be_collected_are_named(repository: Make) -> None:
    settings = "[tool.pytest.ini_options]\n"
    theirs = repository({**FLAT, "pyproject.toml": f"{settings}addopts = '--of-a-plugin-that-is-gone'\n"})
    theirs.write({"pyproject.toml": settings, "benchmarks/test_broken.py": "def x(:\n"})
    outcome = theirs.pytest("benchmarks", "--continue-on-collection-errors")
    assert (outcome.exit_code, outcome.verdicts) == (1, {"test_f": "UNCHANGED"}), outcome.output
    assert "ERROR benchmarks/test_broken.py" in outcome.output
    assert "the base's own tests cannot be collected, so a lost one is not MISSING (" in outcome.output


@pytest.mark.parametrize(
    ("arguments", "base", "said"),
    [
        (("benchmarks/test_plain.py",), "main", "no test uses the benchmark fixture"),
        (("benchmarks",), "nowhere", "base 'nowhere' is neither a directory nor a revision"),
        (("benchmarks", "-n2"), "main", "timing under -n"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(
    repository: Make, arguments: tuple[str, ...], base: str, said: str
) -> None:
    theirs = repository({**FLAT, "benchmarks/test_plain.py": "def test_plain():\n    pass\n"})
    outcome = theirs.pytest(*arguments, base=base, autoload=True)
    assert outcome.exit_code == 4, outcome.output
    assert said in outcome.output
    assert "Traceback" not in outcome.output


def test_a_base_that_cannot_collect_anything_is_no_comparison(repository: Make) -> None:
    theirs = repository({**FLAT, "m/__init__.py": "import no_such_module\n"})
    theirs.write({"m/__init__.py": SUM.format(2)})
    outcome = theirs.pytest()
    assert outcome.exit_code == 4, outcome.output
    assert outcome.verdicts == {"test_f": "NEW"}
    assert "No module named 'no_such_module'" in outcome.reasons("test_f")
    assert "nothing was compared" in outcome.output


def test_a_head_that_cannot_be_collected_has_no_verdict(repository: Make) -> None:
    theirs = repository(FLAT)
    theirs.write({"m/__init__.py": "import no_such_module\n"})
    outcome = theirs.pytest()
    assert outcome.exit_code not in (0, 1), outcome.output
    assert "gate: ERROR" in outcome.output


def test_what_the_head_changes_of_its_process_when_it_is_imported_is_not_changed_for_the_base(repository: Make) -> None:
    test = "import os\nimport m\n\ndef test_{0}(benchmark):\n    benchmark(lambda: {1})\n"
    theirs = repository(
        {
            "m/__init__.py": "",
            "conftest.py": "",
            "benchmarks/test_variable.py": test.format("variable", "'FLAG' in os.environ"),
            "benchmarks/test_folder.py": test.format("folder", "os.path.basename(os.getcwd()) == 'm'"),
        }
    )
    theirs.write({"m/__init__.py": "import os\n\nos.environ['FLAG'] = '1'\nos.chdir(os.path.dirname(__file__))\n"})
    outcome = theirs.pytest()
    for name in ("test_variable", "test_folder"):
        assert outcome.verdicts[name] == "DRIFTED", outcome.output
        assert outcome.reasons(name).startswith("the result is True, and False in the base")


def test_a_variable_that_a_plugin_sets_by_an_option_is_that_of_both_sides(repository: Make) -> None:
    setting = """
        import os

        def pytest_addoption(parser):
            parser.addoption("--flag")

        def pytest_load_initial_conftests(early_config):  # as pytest-django does for --ds
            if early_config.known_args_namespace.flag:
                os.environ["FLAG"] = early_config.known_args_namespace.flag
    """
    test = "import os\nimport m\n\ndef test_f(benchmark):\n    benchmark(lambda: os.environ['FLAG'])\n"
    theirs = repository({**FLAT, "setting.py": setting, "benchmarks/test_f.py": test})
    outcome = theirs.pytest("benchmarks", "-p", "setting", "--flag=given", path=(str(SUITE), str(theirs.path)))
    assert outcome.verdicts == {"test_f": "UNCHANGED"}, outcome.output


def test_a_new_file_and_a_module_that_are_selected_miss_no_other_test(repository: Make) -> None:
    test = "import m\n\ndef test_{}(benchmark):\n    benchmark(m.f)\n"
    theirs = repository(
        {
            "m.py": "def f():\n    return 1\n",
            "conftest.py": "",
            "benchmarks/test_old.py": test.format("old"),
            "inside/__init__.py": "",
            "inside/test_inside.py": test.format("inside"),
        }
    )
    theirs.write({"benchmarks/test_new.py": test.format("new")})
    for selected, found in (
        (("benchmarks/test_new.py",), "test_new"),
        (("--pyargs", "inside.test_inside"), "test_inside"),
    ):
        outcome = theirs.pytest(*selected)
        assert (outcome.exit_code, outcome.verdicts) == (0, {found: "UNCHANGED"}), outcome.output
    theirs.write({"inside/test_inside.py": test.format("other")})
    assert theirs.pytest("--pyargs", "inside.test_inside").verdicts["test_inside"] == "MISSING"


def test_a_lost_test_is_missing_though_another_node_id_is_new(repository: Make) -> None:
    many = "import m\n\nclass TestAll:\n    def test_one(self, benchmark):\n        benchmark(m.f)\n"
    lost = "\n    def test_two(self, benchmark):\n        benchmark(m.f)\n"
    apart = "\ndef test_apart(benchmark):\n    benchmark(m.f)\n"
    new = "\ndef test_new(benchmark):\n    benchmark(m.f)\n"
    file = "benchmarks/test_all.py"
    theirs = repository({"m.py": "def f():\n    return 1\n", "conftest.py": "", file: many + lost + apart})
    theirs.write({file: many + new})
    outcome = theirs.pytest(f"{file}::TestAll", f"{file}::test_new")
    assert outcome.verdicts == {
        "TestAll::test_one": "UNCHANGED",
        "test_new": "UNCHANGED",
        "TestAll::test_two": "MISSING",
    }, outcome.output


def test_a_plugin_that_fails_in_a_twin_alone_is_named(repository: Make) -> None:
    fragile = """
        import os

        os.environ.setdefault("RUN", str(os.getpid()))

        def pytest_addoption():
            if os.environ["RUN"] != str(os.getpid()):
                raise RuntimeError("not in a second process")
    """
    theirs = repository({**FLAT, "fragile.py": fragile})
    outcome = theirs.pytest("benchmarks", "-p", "fragile", path=(str(SUITE), str(theirs.path)))
    assert outcome.exit_code == 4
    assert "before the head had collected tests: " in outcome.output
    assert "RuntimeError: not in a second process" in outcome.output


def test_a_place_for_temporary_files_that_is_too_long_for_a_socket_is_named(repository: Make, tmp_path: Path) -> None:
    theirs = repository(FLAT)
    temporary = tmp_path / ("x" * 100)
    temporary.mkdir()
    outcome = theirs.pytest(TMPDIR=str(temporary))
    assert outcome.exit_code == 4, outcome.output
    assert f"no socket can be made in {temporary}" in outcome.output
    assert "set TMPDIR to a shorter path" in outcome.output


def test_without_a_base_the_plugin_does_nothing(repository: Make) -> None:
    theirs = repository(FLAT)
    outcome = theirs.pytest("benchmarks", "--benchmark-max-time=0.01", base=None)
    assert outcome.exit_code == 0
    assert "gate:" not in outcome.output
    assert "1 benchmark" in outcome.output or "test_f" in outcome.output
    shown = theirs.pytest("--help", base=None)
    assert shown.exit_code == 0, shown.output
    assert "the slowdown that must not pass (default 5%)" in shown.output
