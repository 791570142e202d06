"""Where the code of a side comes from, and what its process is to see of the disk."""

from pathlib import Path

import pytest

from bench.plain.errors import CannotDo
from bench.sources.source import Source, from_directory, installed
from bench.sources.target import Target
from bench.suite import code
from tests.conftest import git

TARGET = Target(("coded:attend",))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that is imported from and worked in: ``src/coded.py``, committed, and edited since."""
    root = tmp_path / "repository"
    (root / "src").mkdir(parents=True)
    (root / "src" / "coded.py").write_text("WHO = 'committed'\n")
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first"), ("tag", "first")):
        git(root, *command)
    (root / "src" / "coded.py").write_text("WHO = 'edited'\n")
    monkeypatch.syspath_prepend(root / "src")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def test_the_head_is_what_is_on_disk(repository: Path) -> None:
    head = code.of_head(TARGET, repository)
    assert head.source.origin == "working tree"
    assert head.source.sha256 == from_directory(repository, ["coded"]).sha256
    assert (head.world.cwd, head.world.repository) == (repository, repository)
    assert head.world.checkout is None
    assert not head.world.closed


def test_a_revision_is_checked_out_in_the_repository_s_place(repository: Path, scratch: Path) -> None:
    base = code.of_name(TARGET, "first", scratch)
    assert base.source.origin.startswith("revision first (")
    assert base.world.repository == repository
    assert base.world.checkout is not None
    assert base.world.checkout.is_relative_to(scratch)
    assert base.world.paths == (base.world.checkout / "src",)
    assert (base.world.paths[0] / "coded.py").read_text() == "WHO = 'committed'\n"
    assert (repository / "src" / "coded.py").read_text() == "WHO = 'edited'\n"


def test_each_revision_is_checked_out_into_a_folder_of_its_own(repository: Path, scratch: Path) -> None:
    del repository
    checkouts = {code.of_revision(TARGET, "first", scratch).world.checkout for _ in range(2)}
    assert len(checkouts) == 2


def test_a_directory_comes_first_and_closes_the_repository(repository: Path, scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "coded.py").write_text("WHO = 'other'\n")
    base = code.of_name(TARGET, str(tmp_path / "other"), scratch)
    assert base.source.sha256 == from_directory(tmp_path / "other", ["coded"]).sha256
    assert base.world.paths == (tmp_path / "other",)
    assert base.world.repository == repository
    assert base.world.closed


def test_a_stored_source_is_unpacked_comes_first_and_closes_the_repository(repository: Path, scratch: Path) -> None:
    stored = from_directory(repository, ["coded"])
    base = code.of_archive(TARGET, stored, scratch)
    (folder,) = base.world.paths
    assert (folder / "coded.py").read_text() == "WHO = 'edited'\n"
    assert folder.is_relative_to(scratch)
    assert base.world.closed


def test_a_stored_source_without_what_is_compared_is_refused(repository: Path, scratch: Path) -> None:
    (repository / "another.py").touch()
    stored = Source("baseline x", from_directory(repository, ["another"]).archive)
    with pytest.raises(CannotDo, match="^the source in baseline x holds no coded: store the baseline anew, with the"):
        code.of_archive(TARGET, stored, scratch)


@pytest.mark.parametrize("archive", [b"", b"no zip at all"])
def test_an_archive_that_is_no_zip_is_refused_in_one_sentence(archive: bytes, scratch: Path) -> None:
    with pytest.raises(CannotDo, match="^the source in baseline x is not a zip archive: store the baseline anew$"):
        code.of_archive(TARGET, Source("baseline x", archive), scratch)


def test_another_interpreter_sees_of_a_source_its_own_files_and_of_none_what_it_has_installed(
    repository: Path, scratch: Path
) -> None:
    given = code.alone(from_directory(repository, ["coded"]), scratch)
    (folder,) = given.world.paths
    assert (folder / "coded.py").is_file()
    assert given.world.repository is None
    assert given.world.environment is None  # its own
    own = code.alone(installed("packages of theirs"), scratch)
    assert own.world.paths == ()
