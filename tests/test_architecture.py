"""The rules of the layout: which way imports go, what needs no torch, and what lies where."""

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from tests.conftest import lacking_all_but

REPOSITORY = Path(__file__).parents[1]
BENCH = REPOSITORY / "bench"
PYTHON_FILES = sorted(path for part in ("attention", "bench", "tests") for path in (REPOSITORY / part).rglob("*.py"))

# Rooms and files at the top of bench, bottom up: each may import those before it. Neighbours that a slash joins may not
# import each other.
ENGINE = """
    plain judging sources timing twins observing report policy_options pytest_benchmark_adapter sessions
""".split()  # noqa: SIM905  # a list of words reads best as words
SUITE = """
    suite history/study options selftest commands comparison session plugin test_attention __main__
""".split()  # noqa: SIM905
ORDER = [*ENGINE, *SUITE]
PURE = """
    plain judging report history sources.source sources.baseline twins.between timing.budget
    timing.machine_load observing.compilation selftest.simulation selftest.replay selftest.findings
    commands.explain_text commands.github commands.comment study.results study.published study.estimate study.judgement
    study.tables study.plots study.report
""".split()  # noqa: SIM905


@cache
def imports(path: Path) -> set[str]:
    """Every name that a file imports, anywhere in it, and where from; relative ones with their dots."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            found |= {prefix} if node.module else set()
            found |= {f"{prefix}{'.' if node.module else ''}{alias.name}" for alias in node.names}
    return found


def bench_files() -> list[Path]:
    return [path for path in PYTHON_FILES if BENCH in path.parents and path.name != "__init__.py"]


def rooms_needed(path: Path) -> set[str]:
    """The rooms and files at the top of bench that a file imports, other than its own."""
    inside = path.relative_to(BENCH).parts
    own = inside[0].removesuffix(".py")
    up = "." * len(inside)
    found = {name.removeprefix(up).partition(".")[0] for name in imports(path) if name.startswith(up)}
    return found - {own}


def level(room: str) -> int:
    return next(i for i, names in enumerate(ORDER) if room in names.split("/"))


def test_data_flows_one_way_through_the_rooms() -> None:
    backwards = {}
    for path in bench_files():
        own = path.relative_to(BENCH).parts[0].removesuffix(".py")
        backwards[path] = {room for room in rooms_needed(path) if level(room) >= level(own)}
    assert {path: rooms for path, rooms in backwards.items() if rooms} == {}


def test_the_engine_knows_neither_the_suite_nor_attention() -> None:
    for path in bench_files():
        if path.relative_to(BENCH).parts[0].removesuffix(".py") in ENGINE:
            assert not rooms_needed(path) & {"suite", "study"}, path
            assert not {name for name in imports(path) if name.partition(".")[0] == "attention"}, path


def test_no_file_of_bench_imports_itself_through_others() -> None:
    files = {".".join(path.relative_to(BENCH).with_suffix("").parts): path for path in bench_files()}
    needed: dict[str, set[str]] = {}
    for own, path in files.items():
        relative = [(len(name) - len(name.lstrip(".")), name.lstrip(".")) for name in imports(path)]
        found = {".".join([*own.split(".")[:-dots], name]) for dots, name in relative if dots}
        needed[own] = found & files.keys()
    TopologicalSorter(needed).prepare()


def test_a_class_has_a_name_of_its_own() -> None:
    trees = (
        ast.parse(path.read_text(encoding="utf-8"))
        for path in PYTHON_FILES
        if not path.is_relative_to(REPOSITORY / "tests")
    )
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert {name for name, times in names.items() if times > 1} == set()


def test_the_top_of_bench_is_small_and_holds_no_page_or_picture() -> None:
    assert len(list(BENCH.glob("*.py"))) <= 14
    misplaced = [p for p in BENCH.rglob("*") if p.suffix in {".md", ".png", ".svg"} and BENCH / "docs" not in p.parents]
    assert misplaced == []


def test_what_is_listed_as_pure_exists() -> None:
    named = {BENCH.joinpath(*name.split(".")) for name in PURE}
    assert {path for path in named if not path.is_dir() and not path.with_suffix(".py").exists()} == set()


def is_pure(path: Path) -> bool:
    parts = path.relative_to(BENCH).with_suffix("").parts
    return bool({parts[0], ".".join(parts)} & set(PURE))


def test_judging_and_reporting_import_no_torch() -> None:
    pure = [".".join(p.relative_to(BENCH).with_suffix("").parts) for p in bench_files() if is_pure(p)]
    code = f"""import importlib, sys
for name in {pure}:
    importlib.import_module(f"bench.{{name}}")
    assert "torch" not in sys.modules, name"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_side_in_a_process_of_its_own_needs_nothing_but_torch_and_loads_little_of_it() -> None:
    code = f"""{lacking_all_but("torch")}
sys.modules["attention"] = None
import bench.twins.interpreter, bench.suite.worker, torch
from bench.observing.fingerprint import fingerprint
x = torch.ones(4)
fingerprint(lambda: x * 2)
assert "torch._dynamo" not in sys.modules, "a fingerprint loads the compiler"
del sys.modules["attention"]
import attention
parallel = [name for name in sys.modules if name.startswith("torch.distributed.tensor")]
assert not parallel, "attention loads tensor parallelism"
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_the_plugin_s_own_files_know_pytest() -> None:
    knowing = {path.stem for path in bench_files() if any("pytest" in name for name in imports(path))}
    assert knowing == {
        "arguments",
        "comparison",
        "ending",
        "explain",
        "image",
        "marker",
        "options",
        "plugin",
        "policy_options",
        "protocol",
        "pytest_benchmark_adapter",
        "runs",
        "session",
        "settings",
        "twin",
    }


def test_the_package_under_test_imports_torch_and_itself_relatively_and_nothing_else() -> None:
    for path in (REPOSITORY / "attention").rglob("*.py"):
        for name in imports(path):
            top = name.partition(".")[0]
            assert name.startswith(".") or top == "torch" or top in sys.stdlib_module_names, (path, name)


def test_the_conftest_loads_the_plugin_and_has_no_logic() -> None:
    body = ast.parse((REPOSITORY / "conftest.py").read_text()).body
    assert [type(node).__name__ for node in body] == ["Expr", "Assign"]


def test_a_file_says_what_it_does() -> None:
    silent = []
    for path in PYTHON_FILES:
        text = path.read_text(encoding="utf-8")
        docstring = ast.get_docstring(ast.parse(text)) or ""
        if text and not docstring.partition("\n")[0].endswith((".", ":")):  # the __init__ of a room is empty
            silent.append(path)
    assert silent == []


def test_a_process_that_compares_does_not_import_the_head() -> None:
    code = "import sys, bench.plugin, bench.suite.image; assert 'attention' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_long_file_says_why_at_its_top() -> None:
    long_ones = [path for path in PYTHON_FILES if len(path.read_text(encoding="utf-8").splitlines()) > 300]
    said = {path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in long_ones}
    assert [path for path, docstring in said.items() if "Over 300 lines: " not in docstring] == []
