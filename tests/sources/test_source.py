"""Packing a source: the same bytes for the same files, and a sentence where there are none."""

import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from bench.plain.errors import CannotDo
from bench.sources.source import from_directory, from_revision


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository whose first commit has no package and whose second has one."""

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "no package")
    git("tag", "before")
    (tmp_path / "attention").mkdir()
    (tmp_path / "attention" / "__init__.py").write_text("KERNELS = {'k': len}\n")
    git("add", ".")
    git("commit", "-q", "-m", "a package")
    git("tag", "after")
    (tmp_path / "attention" / "__init__.py").write_text("KERNELS = {'edited': len}\n")
    return tmp_path


def test_equal_source_has_an_equal_digest_whichever_way_it_is_packed(repository: Path) -> None:
    committed = from_revision(repository, "after")
    assert committed.sha256 != from_directory(repository).sha256
    (repository / "attention" / "__init__.py").write_text("KERNELS = {'k': len}\n")
    assert committed.sha256 == from_directory(repository).sha256 == from_directory(repository / "attention").sha256
    assert from_directory(repository).archive == from_directory(repository / "attention").archive


def test_a_revision_holds_what_was_committed_and_not_the_working_tree(repository: Path) -> None:
    source = from_revision(repository, "after")
    assert source.origin.startswith("revision after (")
    with ZipFile(io.BytesIO(source.archive)) as archive:
        assert archive.read("attention/__init__.py") == b"KERNELS = {'k': len}\n"


def test_compiled_files_are_not_source(package: Callable[..., Path]) -> None:
    directory = package(__init__="KERNELS = {}\n")
    digest = from_directory(directory).sha256
    (directory / "attention" / "__pycache__").mkdir()
    (directory / "attention" / "__pycache__" / "x.pyc").write_bytes(b"1")
    assert from_directory(directory).sha256 == digest


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("no-such", "base 'no-such' is neither a directory nor a revision that git knows here .*: check the name"),
        ("--output=x", "is neither a directory nor a revision"),
        (5000 * "x", "x' is neither a directory nor a revision that git knows here"),
        ("before", r"revision before \(\w{12}\) has no attention/: choose one that has the package"),
    ],
)
def test_a_revision_that_cannot_be_had_is_one_sentence(repository: Path, revision: str, message: str) -> None:
    with pytest.raises(CannotDo, match=message):
        from_revision(repository, revision)


def test_a_directory_without_the_package_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match=r"holds no attention/__init__.py: name a directory that holds the package"):
        from_directory(tmp_path)


def test_without_git_a_revision_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotDo, match="git could not be run .*: install it, or name a directory"):
        from_revision(tmp_path, "main")
