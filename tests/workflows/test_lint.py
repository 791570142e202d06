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


@pytest.mark.parametrize(("broken", "passes"), [(False, True), (True, False)], ids=["as they are", "with a fault"])
def test_zizmor_and_the_schema_pass_the_workflows_and_would_see_a_fault(
    tmp_path: Path, broken: bool, passes: bool
) -> None:
    shutil.copytree(REPOSITORY / ".github", tmp_path / ".github")
    gate = tmp_path / ".github" / "workflows" / "gate.yml"
    if broken:
        gate.write_text(gate.read_text().replace("\n  merge_group:", "\n  pull_request_target: {type: [x]}"))
    assert (lint(tmp_path, "zizmor", "--offline", "--pedantic", "--quiet", ".github") == 0) is passes
    schema = ("check-jsonschema", "--builtin-schema", "vendor.github-workflows")
    assert (lint(tmp_path, *schema, str(gate)) == 0) is passes


@pytest.mark.parametrize(
    "target",
    ["install", "install-gpu", "install-history", "lint", "test", "test-history", "test-instruction-sets"],
)
def test_the_make_targets_that_the_workflows_name_exist(target: str) -> None:
    texts = [path.read_text() for path in WORKFLOWS]
    assert any(f"make {target}" in text for text in texts)
    assert lint(REPOSITORY, "/usr/bin/env", "make", "-n", target) == 0


def test_environments_are_pinned_and_agree_on_what_they_share() -> None:
    files = {path.name: path.read_text().splitlines() for path in REPOSITORY.glob("requirements*.txt")}
    pins = {
        name: dict(line.split("==") for line in lines if line[:1] not in ("", "#")) for name, lines in files.items()
    }
    assert pins.keys() == {"requirements.txt", "requirements-gpu.txt", "requirements-history.txt"}
    for own in pins.values():
        assert own == {package: pins["requirements.txt"].get(package, version) for package, version in own.items()}
