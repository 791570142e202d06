"""The linters of `make lint` pass the workflows, and would see a fault in them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
BINS = Path(sys.executable).parent


def lint(folder: Path, *command: str) -> int:
    return subprocess.run([BINS / command[0], *command[1:]], cwd=folder, capture_output=True, check=False).returncode


ZIZMOR = ("zizmor", "--offline", "--pedantic", "--strict-collection", "--quiet", ".github")
SCHEMA = ("check-jsonschema", "--builtin-schema", "vendor.github-workflows", ".github/workflows/gate.yml")
# What zizmor holds, and therefore no rule of rules.py: no pull request has the base's rights, and no expression is part
# of a command.
FAULTS = {
    "the workflows as they are": ("name: gate", "name: gate", ()),
    "a trigger with the base's rights": ("  pull_request:", "  pull_request_target:", ("zizmor",)),
    "a comment as a trigger": ("  merge_group:", "  issue_comment:", ("zizmor",)),
    "an expression in a command": ('"$BASE"', '"${{ github.head_ref }}"', ("zizmor",)),
    "a function in a command": ('"$BASE"', "${{ format('{0}', matrix.shard) }}", ("zizmor",)),
    "a key that GitHub does not know": ("timeout-minutes: 30", "timeout: 30", ("check-jsonschema",)),
}


@pytest.mark.parametrize(("text", "edited", "seen_by"), FAULTS.values(), ids=FAULTS)
def test_the_linters_pass_the_workflows_and_see_a_fault(
    tmp_path: Path, text: str, edited: str, seen_by: tuple[str, ...]
) -> None:
    shutil.copytree(REPOSITORY / ".github", tmp_path / ".github")
    gate = tmp_path / ".github" / "workflows" / "gate.yml"
    assert text in gate.read_text()
    gate.write_text(gate.read_text().replace(text, edited, 1))
    assert tuple(command[0] for command in (ZIZMOR, SCHEMA) if lint(tmp_path, *command)) == seen_by


def test_one_finding_of_zizmor_is_suppressed_and_make_lint_runs_it_as_here() -> None:
    suppressed = [
        (path.stem, line) for path in WORKFLOWS for line in path.read_text().splitlines() if "zizmor:" in line
    ]
    assert [(name, "[dangerous-triggers]" in line) for name, line in suppressed] == [("comment", True)]
    assert "\t$(VENV)/bin/" + " ".join(ZIZMOR) + "\n" in (REPOSITORY / "Makefile").read_text()


@pytest.mark.parametrize(
    "target",
    ["install", "install-gpu", "install-history", "lint", "test", "test-history", "test-instruction-sets"],
)
def test_the_make_targets_that_the_workflows_name_exist(target: str) -> None:
    texts = [path.read_text() for path in WORKFLOWS]
    assert any(f"make {target}" in text for text in texts)
    assert lint(REPOSITORY, "/usr/bin/env", "make", "-n", target) == 0


def test_make_lets_python_keep_its_bytecode_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # as images of containers do
    shows = ["make", "--silent", "--eval=shown:; @printenv", "shown"]
    shown = subprocess.run(shows, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert "PATH=" in shown
    assert "PYTHONDONTWRITEBYTECODE" not in shown


def test_environments_are_pinned_and_agree_on_what_they_share() -> None:
    files = {path.name: path.read_text().splitlines() for path in REPOSITORY.glob("requirements*.txt")}
    pins = {
        name: dict(line.split("==") for line in lines if line[:1] not in ("", "#")) for name, lines in files.items()
    }
    assert pins.keys() == {"requirements.txt", "requirements-gpu.txt", "requirements-history.txt"}
    for own in pins.values():
        assert own == {package: pins["requirements.txt"].get(package, version) for package, version in own.items()}
