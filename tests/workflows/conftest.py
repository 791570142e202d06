"""GitHub, offline: a runner that executes the jobs of ``.github/workflows``, and an API with one pull request."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import git

REPOSITORY = Path(__file__).parents[2]
PARTS = (".github", ".gitignore", "Makefile", "attention", "bench", "conftest.py", "pyproject.toml")
BOT = "github-actions[bot]"

PULL_REQUEST = {"github.event.merge_group.base_sha || 'HEAD^1'": "HEAD^1"}  # its value outside a merge queue


@dataclass(frozen=True)
class Job:
    """What a job left: its exit code (of the step that failed it), what it printed, its summary, its workspace."""

    exit_code: int
    output: str
    summary: str
    workspace: Path


@dataclass
class Runner:
    """A repository at a remote place, and a machine that runs jobs on it, each in a new workspace.

    ``run:`` steps are executed as they stand. Actions do only what these workflows use of them: checkout clones,
    artifacts are copied, setup-python is the Python that runs this test, with the packages that `make install` and its
    like would install, or a script in its place.
    """

    root: Path
    variables: dict[str, str] = field(default_factory=dict)  # of every step, added to the workflow's own
    python: str | None = None  # the text of a script that stands in for the environment's Python
    jobs: int = 0

    def __post_init__(self) -> None:
        self.remote.mkdir()
        for source in (*map(REPOSITORY.joinpath, PARTS), *REPOSITORY.glob("requirements*.txt")):
            if source.is_dir():
                shutil.copytree(source, self.remote / source.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, self.remote)
        self.git("init", "-q", "-b", "main")
        self.commit("base")

    @property
    def remote(self) -> Path:
        return self.root / "remote"

    def artifact(self, name: str) -> Path:
        return self.root / "artifacts" / name

    def git(self, *arguments: str) -> str:
        return git(self.remote, *arguments)

    def commit(self, message: str) -> None:
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def run(self, workflow: str, job: str, expressions: Mapping[str, object] | None = None) -> Job:
        """Run a job; ``expressions`` are the values of the ``${{ }}`` that it uses, and it may use no others."""
        document = yaml.safe_load((REPOSITORY / ".github" / "workflows" / f"{workflow}.yml").read_text())
        self.jobs += 1
        workspace, temporary = self.root / f"job-{self.jobs}", self.root / f"temp-{self.jobs}"
        temporary.mkdir()
        known = {
            "runner.temp": temporary,
            "github.workspace": workspace,
            "!cancelled()": True,
            **PULL_REQUEST,
            **(expressions or {}),
        }
        exit_code, output, summary = 0, "", ""
        for number, step in enumerate(document["jobs"][job]["steps"]):
            if exit_code and "cancelled()" not in str(step.get("if", "")):
                continue
            if "uses" in step:
                worked = self._use(step["uses"].partition("@")[0], _fill(step.get("with", {}), known), workspace)
                exit_code = exit_code or int(not worked)
                continue
            place = workspace / step.get("working-directory", "")
            if step["run"].startswith("make install"):
                _install(place / (".venv-history" if step["run"].endswith("-history") else ".venv"), self.python)
            summary_file = temporary / f"summary-{number}"
            summary_file.touch()
            declared = {**document.get("env", {}), **document["jobs"][job].get("env", {}), **step.get("env", {})}
            done = subprocess.run(
                ["bash", "-e", "-c", step["run"]],  # as GitHub does where no shell is named
                cwd=place,
                env=self._environment(temporary, summary_file) | _fill(declared, known),
                capture_output=True,
                text=True,
                check=False,
            )
            exit_code = exit_code or done.returncode
            output += done.stdout + done.stderr
            summary += summary_file.read_text()
        return Job(exit_code, output, summary, workspace)

    def _environment(self, temporary: Path, summary: Path) -> dict[str, str]:
        own = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {
            **own,
            "PATH": path,
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_SHA": self.git("rev-parse", "HEAD"),
            "RUNNER_TEMP": str(temporary),
            **self.variables,
        }

    def _use(self, action: str, given: dict[str, str], workspace: Path) -> bool:
        path = given.get("path", "")
        if action == "actions/checkout":
            branch = ("--branch", given["ref"]) if "ref" in given else ()
            remote = Path(given.get("repository", self.remote))  # another repository is named by its path
            subprocess.run(["git", "clone", "-q", *branch, remote, workspace / path], check=True)
        elif action == "actions/upload-artifact":
            return self._keep(workspace, path.split(), given["name"])
        elif action == "actions/upload-pages-artifact":
            return self._keep(workspace, [path], "github-pages")
        elif action == "actions/download-artifact":
            for source in self.artifact("").glob(given.get("pattern") or given["name"]):
                shutil.copytree(source, workspace / path, dirs_exist_ok=True)
        else:
            assert action == "actions/setup-python", action
        return True

    def _keep(self, workspace: Path, patterns: list[str], name: str) -> bool:
        """Copy files into an artifact, with their paths below what the patterns have in common, as the action does."""
        top = workspace / patterns[0].partition("*")[0] if len(patterns) == 1 else workspace
        found = [match for pattern in patterns for match in workspace.glob(pattern.rstrip("/"))]
        files = [file for match in found for file in ([match] if match.is_file() else match.rglob("*"))]
        for file in files:
            target = self.artifact(name) / file.relative_to(top)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        return bool(files)  # each upload says if-no-files-found: error


def _fill(values: Mapping[str, object], known: Mapping[str, object]) -> dict[str, str]:
    return {n: re.sub(r"\$\{\{ (.*?) \}\}", lambda m: str(known[m[1]]), str(v)) for n, v in values.items()}


def _install(environment: Path, python: str | None) -> None:
    """Put the environment that runs this test where `make install` and its like look for the one that they built."""
    environment.mkdir()
    if python is not None:
        (environment / "bin").mkdir()
        (environment / "bin" / "python").write_text(python)
        (environment / "bin" / "python").chmod(0o755)
    for name in ("bin", "lib", "lib64", "include", "pyvenv.cfg"):
        if python is None and (Path(sys.prefix) / name).exists():
            (environment / name).symlink_to(Path(sys.prefix) / name)
    for stamp in ("ready", "ready-gpu"):
        (environment / stamp).touch()


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@dataclass
class Hub:
    """A repository with one pull request, number 7, as the API shows it, and what was asked of it."""

    head: str = "a" * 40
    commits: tuple[str, ...] = ("a" * 40, "b" * 40)  # of the pull request
    state: str = "open"
    comments: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    status: int = 200
    variables: dict[str, str] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.requests.append((method, path))
        route, _, query = path.removeprefix("/repos/o/r/").partition("?")
        if self.status != 200:
            return self.status, {"message": "Resource not accessible by integration"}
        if (method, route) == ("GET", "pulls/7"):
            return 200, {"number": 7, "head": {"sha": self.head}}
        if method == "GET" and (commit := re.fullmatch(r"commits/(\w+)/pulls", route)):
            own = {"number": 7, "state": self.state, "head": {"sha": self.head}}
            return 200, [own] if commit[1] in self.commits else []
        if (method, route) == ("GET", "issues/7/comments"):
            size, page = (int(n) for n in re.findall(r"=(\d+)", query))
            return 200, self.comments[(page - 1) * size : page * size]
        if (method, route) == ("POST", "issues/7/comments"):
            self.add(body["body"])
            return 201, self.comments[-1]
        for each in self.comments:
            if (method, route) == ("PATCH", f"issues/comments/{each['id']}"):
                each["body"] = body["body"]
                return 200, each
        return 404, {"message": "Not Found"}

    def add(self, body: str, login: str = BOT, kind: str = "Bot") -> None:
        self.comments.append({"id": 100 + len(self.comments), "body": body, "user": {"login": login, "type": kind}})

    @property
    def written(self) -> list[str]:
        return [method for method, _ in self.requests if method != "GET"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_any(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
            state.tokens.add(self.headers["Authorization"])
            status, body = state.answer(self.command, self.path, json.loads(sent) if sent else None)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST = do_PATCH = do_any  # noqa: N815  # the names that http.server looks for

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.variables = {
        "GITHUB_API_URL": f"http://127.0.0.1:{server.server_port}",
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_TOKEN": "secret",
    }
    for name, value in state.variables.items():
        monkeypatch.setenv(name, value)
    yield state
    server.shutdown()
    server.server_close()
