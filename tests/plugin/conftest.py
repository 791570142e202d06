"""Inner pytest sessions over the real ``bench/``, in this process with an empty directory; sides are real twins."""

import importlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.sources import source
from bench.sources.target import Target
from bench.suite import code
from bench.suite.code import PackageCode
from bench.suite.forked import IMAGE
from bench.twins.fork import start_server

REPOSITORY = Path(__file__).parents[2]
ONE = "sdpa-b1h4t64d32-full-fp32-cpu-fwd"  # the quickest case
BASE = f"--gate-base={REPOSITORY}"

Bench = Callable[..., pytest.RunResult]


@pytest.fixture(autouse=True, scope="session")
def _loaded_once() -> None:
    """Load what an inner run would load for itself and forget: torch's compiler, and the server that forks twins."""
    importlib.import_module("torch._inductor.compile_fx")
    start_server(IMAGE, threads=1)


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Give the inner runs of a test another head: a copy of the package, with text appended to a file of it."""
    root = tmp_path / "head"

    def of_head(target: Target, gated: Path) -> PackageCode:
        found = of_disk(target, gated)
        if not root.exists():  # nothing is edited yet
            return found
        return PackageCode(source.from_directory(root), replace(found.world, paths=(root,)))

    def append(stem: str, text: str) -> Path:
        if not root.exists():
            shutil.copytree(REPOSITORY / "attention", root / "attention", ignore=shutil.ignore_patterns("__pycache__"))
        path = root / "attention" / f"{stem}.py"
        path.write_text(f"{path.read_text() if path.exists() else ''}\n{text}\n")
        return root

    of_disk = code.of_head
    monkeypatch.setattr(code, "of_head", of_head)
    return append


@pytest.fixture
def bench(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Run ``pytest bench/ --tier=smoke`` with more arguments, by default on one case; returns the result."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)  # the outer run's business

    def run(*arguments: str, case: str | None = f"{ONE}]") -> pytest.RunResult:
        chosen = () if case is None else ("-k", case)
        compares = any(argument.startswith(("--gate-base=", "--benchmark-compare")) for argument in arguments)
        sure = ("--gate-threshold=50%",) if compares else ()  # certain soon, on a busy machine too
        return pytester.runpytest_inprocess(
            f"--rootdir={REPOSITORY}",
            f"--config-file={REPOSITORY / 'pyproject.toml'}",
            REPOSITORY / "bench",
            "--tier=smoke",
            "--benchmark-max-time=0.01",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",  # every run would import the whole of it, for its summary
            *chosen,
            *sure,
            *arguments,
        )

    return run
