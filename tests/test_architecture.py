"""The rules of the layout: which way imports go, what needs no torch, and how long a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PYTHON_FILES = sorted(path for part in ("attention", "bench", "tests") for path in (REPOSITORY / part).rglob("*.py"))

# Each module of bench may import the ones to the left of it.
ORDER = """
    errors files execution evidence changes roofline source environment load naive cases work sides places workload
    cuda clock measure ceiling drift compilation recorder profiling sdpa_calls fingerprint statistics between worker
    remote processes budget plain_text verdict waivers advice recording gate baseline shards report github history
    history_steps history_text history_page history_report merge outside options pytest_benchmark_adapter session
    plugin test_attention replay replay_report margins merge_command record overhead tensor_parallel explain_text
    explain selftest_report selftest_picture selftest study comment __main__
""".split()  # noqa: SIM905  # a list of words reads best as words
PURE = """
    execution evidence changes roofline statistics between budget plain_text verdict waivers advice recording report
    merge replay files errors source baseline load compilation explain_text places github comment study.results
    study.published study.estimate study.judgement study.store study.tables study.plots study.report
""".split()  # noqa: SIM905  # likewise


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it; relative ones with their dots."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            found |= {prefix} if node.module else {prefix + alias.name for alias in node.names}
    return found


def module_of(path: Path) -> str:
    return path.relative_to(REPOSITORY / "bench").parts[0].removesuffix(".py")


def bench_files() -> list[Path]:
    return [path for path in PYTHON_FILES if (REPOSITORY / "bench") in path.parents and path.name != "__init__.py"]


@pytest.mark.parametrize("path", bench_files(), ids=str)
def test_data_flows_one_way_through_the_instrument(path: Path) -> None:
    level = "." * len(path.relative_to(REPOSITORY / "bench").parts)
    own = module_of(path)
    needed = {name.removeprefix(level).partition(".")[0] for name in imports(path) if name.startswith(level)}
    if level == ".":
        assert {ORDER.index(name) < ORDER.index(own) for name in needed} <= {True}, needed
    else:
        assert needed <= set(ORDER[: ORDER.index(own)]), needed


def test_judging_and_reporting_import_no_torch() -> None:
    code = f"""import importlib, sys
for name in {PURE}:
    importlib.import_module(f"bench.{{name}}")
    assert "torch" not in sys.modules, name"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_side_in_a_process_of_its_own_needs_nothing_but_torch() -> None:
    others = ["psutil", "pytest", "pytest_benchmark", "jinja2", "scipy", "tqdm", "matplotlib", "attention"]
    code = f"import sys; sys.modules.update(dict.fromkeys({others})); import bench.worker"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_the_plugin_s_own_files_know_pytest() -> None:
    knowing = {module_of(path) for path in bench_files() if any("pytest" in name for name in imports(path))}
    assert knowing == {"explain", "options", "plugin", "pytest_benchmark_adapter", "session", "selftest"}


def test_the_package_under_test_imports_torch_and_itself_relatively_and_nothing_else() -> None:
    for path in (REPOSITORY / "attention").rglob("*.py"):
        for name in imports(path):
            top = name.partition(".")[0]
            assert name.startswith(".") or top == "torch" or top in sys.stdlib_module_names, (path, name)


def test_the_conftest_loads_the_plugin_and_has_no_logic() -> None:
    body = ast.parse((REPOSITORY / "conftest.py").read_text()).body
    assert [type(node).__name__ for node in body] == ["Expr", "Assign"]


@pytest.mark.parametrize("path", PYTHON_FILES, ids=str)
def test_a_file_is_short_and_says_what_it_does(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring is not None
    assert docstring.splitlines()[0].endswith((".", ":"))
    assert len(text.splitlines()) <= 300
