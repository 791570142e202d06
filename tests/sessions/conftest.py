"""A repository that is not ours, with a package, benchmarks and a history, and runs of the gate in it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from bench.sources.target import SUITE
from tests.conftest import git

collect_ignore = ["examples"]  # what test_facts runs in a repository of its own


@dataclass(frozen=True)
class Outcome:
    """What a run of pytest came to."""

    exit_code: int
    output: str
    document: dict[str, Any] | None

    @property
    def verdicts(self) -> dict[str, str]:
        assert self.document is not None, self.output
        return {case["id"].partition("::")[2]: case["verdict"] for case in self.document["cases"]}

    def reasons(self, name: str) -> str:
        assert self.document is not None, self.output
        (case,) = (case for case in self.document["cases"] if case["id"].endswith(f"::{name}"))
        return "; ".join(case["reasons"])


@dataclass(frozen=True)
class Repository:
    """A git repository in a folder."""

    path: Path

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")

    def git(self, *arguments: str) -> None:
        git(self.path, *arguments)

    def commit(self, files: Mapping[str, str]) -> None:
        self.write(files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a change")

    def pytest(
        self,
        *arguments: str,
        base: str | None = "main",
        at: str = "",
        plugin: bool = True,
        path: Sequence[str] = (str(SUITE),),
        preexec: Callable[[], object] | None = None,
        autoload: bool = False,
        **environment: str,
    ) -> Outcome:
        """Run pytest in the repository as its users do, with the plugin.

        ``autoload``: beside every plugin that is installed, which takes half a second a run; so does ``plugin=False``.
        """
        verdicts = self.path.parent / "verdicts.json"
        verdicts.unlink(missing_ok=True)
        # So high a threshold is certain on a busy machine, too.
        strictness = [] if base is None else ["--gate-threshold=50%", "--gate-budget=3"]
        options = [] if base is None else [f"--gate-base={base}", f"--gate-json={verdicts}"]
        loaded = ["-p", "bench.sessions.plugin"] if plugin else []
        if plugin and not autoload:
            loaded += ["-p", "pytest_benchmark.plugin"]
            environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
        outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *loaded, *strictness, *(arguments or ("benchmarks",)), *options],
            cwd=self.path / at,
            env={**outer, "PYTHONPATH": os.pathsep.join(path), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,  # what hangs fails
            preexec_fn=preexec,
        )
        document = json.loads(verdicts.read_text(encoding="utf-8")) if verdicts.exists() else None
        return Outcome(done.returncode, done.stdout + done.stderr, document)


def new_repository(folder: Path, files: Mapping[str, str]) -> Repository:
    """Make a repository in a folder: its branch ``main`` holds these files, and ``change`` is checked out."""
    path = folder / "repository"
    path.mkdir()
    made = Repository(path)
    made.git("init", "--quiet", "--initial-branch=main")
    made.commit(
        {".gitignore": "__pycache__/\n.benchmarks/\n", "pyproject.toml": "[tool.pytest.ini_options]\n", **files}
    )
    made.git("checkout", "--quiet", "-b", "change")
    return made


Make = Callable[[Mapping[str, str]], Repository]
MODULE = "def f():\n    return {value}\n"
TEST = "import m\n\ndef test_f(benchmark):\n    benchmark(m.f)\n"


@pytest.fixture
def repository(tmp_path: Path) -> Make:
    """Make a repository for one test."""
    return partial(new_repository, tmp_path)
