"""What git and directories give as a source: a checkout's files, the same digest for the same files, or a sentence.

Over 300 lines: each of git's ways to hold a file, and each refusal, has a test.
"""

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import pytest

from bench.plain.errors import CannotDo
from bench.sources import source
from bench.sources.repository import NAMING_A_REPOSITORY, git, top_level
from bench.sources.source import Source, checked_out, from_directory, names_directory
from tests.conftest import git as git_as_somebody

Git = Callable[..., str]
INIT = "KERNELS = {'k': len}\n"


def repository(root: Path) -> Git:
    """Make a repository with one commit, ``attention/__init__.py``; returns how to run git in it."""

    run = partial(git_as_somebody, root)
    (root / "attention").mkdir(parents=True)
    (root / "attention" / "__init__.py").write_text(INIT)
    run("init", "-q", "-b", "trunk")
    committed(run)
    return run


def from_revision(root: Path, revision: str, names: Sequence[str] = ("attention",)) -> Source:
    with TemporaryDirectory() as scratch:
        return checked_out(root, revision, names, Path(scratch).resolve())[0]


@pytest.fixture
def here(tmp_path: Path) -> tuple[Path, Git]:
    root = tmp_path / "here"
    return root, repository(root)


def files(packed: Source) -> dict[str, str]:
    with ZipFile(io.BytesIO(packed.archive)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def committed(run: Git) -> None:
    run("add", ".")
    run("commit", "-q", "-m", "all")


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"])
def test_another_repository_in_the_environment_is_not_asked(
    here: tuple[Path, Git], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    other = tmp_path / "other"
    repository(other)
    inside = {"GIT_DIR": ".git", "GIT_WORK_TREE": ".", "GIT_INDEX_FILE": ".git/index"}.get(variable, ".git/objects")
    monkeypatch.setenv(variable, str(other / inside))
    before = {path: path.read_bytes() for path in sorted((other / ".git").rglob("*")) if path.is_file()}
    assert top_level(here[0]) == here[0]
    assert files(from_revision(here[0], "HEAD")) == {"attention/__init__.py": INIT}
    assert {path: path.read_bytes() for path in sorted((other / ".git").rglob("*")) if path.is_file()} == before


def test_git_names_no_variable_that_is_missed(here: tuple[Path, Git]) -> None:
    known = set(git(here[0], "rev-parse", "--local-env-vars").decode().split())
    configuring = {"GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT", "GIT_NO_REPLACE_OBJECTS"}
    assert known - configuring <= NAMING_A_REPOSITORY


@pytest.mark.parametrize("target", ["impl.py", "../shared.py", "../lib/chain.py"])
def test_a_committed_link_is_what_a_checkout_would_give(here: tuple[Path, Git], target: str) -> None:
    root, run = here
    (root / "attention" / "impl.py").write_text("X = 1\n")
    (root / "shared.py").write_text("X = 2\n")
    (root / "lib").mkdir()
    (root / "lib" / "chain.py").symlink_to("../shared.py")
    (root / "attention" / "fast.py").symlink_to(target)
    committed(run)
    packed = from_revision(root, "HEAD")
    assert files(packed)["attention/fast.py"] == (root / "attention" / "fast.py").read_text()
    assert packed.sha256 == from_directory(root).sha256


def test_a_link_to_a_directory_brings_its_files(here: tuple[Path, Git]) -> None:
    root, run = here
    (root / "kernels").mkdir()
    (root / "kernels" / "one.py").write_text("X = 1\n")
    (root / "attention" / "kernels").symlink_to("../kernels")
    committed(run)
    assert files(from_revision(root, "HEAD"))["attention/kernels/one.py"] == "X = 1\n"
    assert from_revision(root, "HEAD").sha256 == from_directory(root).sha256


@pytest.mark.parametrize("target", ["gone.py", "/nowhere/at/all.py", "../../outside.py"])
def test_a_link_that_leads_nowhere_is_named(here: tuple[Path, Git], target: str) -> None:
    root, run = here
    (root / "attention" / "fast.py").symlink_to(target)
    committed(run)
    with pytest.raises(CannotDo, match=r"has the link attention/fast.py, which leads to nothing in that revision"):
        from_revision(root, "HEAD")


@pytest.mark.parametrize("attribute", ["export-ignore", "export-subst"])
def test_attributes_of_an_export_change_nothing(here: tuple[Path, Git], attribute: str) -> None:
    root, run = here
    (root / "attention" / "version.py").write_text("COMMIT = '$Format:%H$'\n")
    (root / ".gitattributes").write_text(f"attention/version.py {attribute}\n")
    committed(run)
    assert files(from_revision(root, "HEAD"))["attention/version.py"] == "COMMIT = '$Format:%H$'\n"
    assert from_revision(root, "HEAD").sha256 == from_directory(root).sha256


def test_a_submodule_is_source_of_its_own_commit_where_it_is_checked_out(
    here: tuple[Path, Git], tmp_path: Path
) -> None:
    root, run = here
    repository(tmp_path / "third")
    run("submodule", "add", "-q", str(tmp_path / "third"), "attention/third")
    committed(run)
    (root / "attention" / "third" / "attention" / "__init__.py").write_text("edited = 1\n")
    assert files(from_revision(root, "HEAD")) == {
        "attention/__init__.py": INIT,
        "attention/third/attention/__init__.py": INIT,
    }
    run("submodule", "deinit", "-q", "--force", "attention/third")
    assert files(from_revision(root, "HEAD")) == {"attention/__init__.py": INIT}


def test_a_package_below_the_root_or_in_src_is_found(tmp_path: Path) -> None:
    root = tmp_path / "outer"
    run = repository(root / "inner")
    (root / "inner" / "src").mkdir()
    (root / "inner" / "attention").rename(root / "inner" / "src" / "attention")
    committed(run)
    assert files(from_revision(root / "inner", "HEAD")) == {"attention/__init__.py": INIT}
    assert files(from_directory(root / "inner")) == {"attention/__init__.py": INIT}


def test_several_packages_and_modules_are_one_source(here: tuple[Path, Git]) -> None:
    root, run = here
    (root / "helper.py").write_text("X = 1\n")
    committed(run)
    packed = from_revision(root, "HEAD", ["attention", "helper"])
    assert packed.names == {"attention", "helper"}
    assert packed.sha256 == from_directory(root, ["attention", "helper"]).sha256
    with pytest.raises(CannotDo, match=r"has no absent/: choose one that has the package"):
        from_revision(root, "HEAD", ["attention", "absent"])


def test_a_directory_that_is_a_revision_too_is_refused_with_both_spellings(
    here: tuple[Path, Git], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, run = here
    run("branch", "attention")
    monkeypatch.chdir(root)
    with pytest.raises(CannotDo, match=r"is a directory and a revision .*: write ./attention .* refs/heads/attention"):
        names_directory(root, "attention")
    assert names_directory(root, "./attention")
    assert not names_directory(root, "refs/heads/attention")


@pytest.mark.parametrize("asked", ["twice", "twice~0", "twice^{commit}"])
def test_a_tag_and_a_branch_of_one_name_are_refused_with_both_spellings(here: tuple[Path, Git], asked: str) -> None:
    root, run = here
    run("branch", "twice")
    (root / "attention" / "more.py").write_text("X = 1\n")
    committed(run)
    run("tag", "twice")
    with pytest.raises(CannotDo, match="means several things .*: write refs/heads/twice or refs/tags/twice"):
        from_revision(root, asked)
    assert files(from_revision(root, "refs/heads/twice")) == {"attention/__init__.py": INIT}
    assert "attention/more.py" in files(from_revision(root, "refs/tags/twice"))


def test_what_git_refuses_is_told_in_its_words(here: tuple[Path, Git], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(CannotDo, match="dubious ownership.*safe.directory"):
        from_revision(here[0], "HEAD")
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    (here[0] / ".git" / "config").write_text("[core\n")
    with pytest.raises(CannotDo, match="bad config line 1"):
        from_revision(here[0], "HEAD")


def test_litter_in_the_package_is_no_source(here: tuple[Path, Git], monkeypatch: pytest.MonkeyPatch) -> None:
    root, run = here
    package = root / "attention"
    (root / ".gitignore").write_text("*.log\n")
    committed(run)
    monkeypatch.setattr(source, "MOST_UNTRACKED_BYTES", 1000)
    (package / ".env").write_text("SECRET=1\n")
    (package / ".ipynb_checkpoints").mkdir()
    (package / ".ipynb_checkpoints" / "x.py").write_text("X\n")
    (package / "run.log").write_text("log\n")
    (package / "core").write_bytes(b"0" * 1001)
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"1")
    (package / "mine.py").write_text("X = 1\n")  # a kernel that was just written
    (package / "tuning.json").write_text("{}\n")  # and what it reads
    assert set(files(from_directory(root))) == {
        "attention/__init__.py",
        "attention/mine.py",
        "attention/tuning.json",
    }


def test_a_tracked_file_is_source_whatever_it_is_called(here: tuple[Path, Git]) -> None:
    root, run = here
    (root / "attention" / ".hidden").write_text("x\n")
    committed(run)
    (root / "attention" / "__init__.py").unlink()
    (root / "attention" / "__init__.py").write_text("X = 1\n")
    assert set(files(from_directory(root))) == {"attention/__init__.py", "attention/.hidden"}


def test_what_is_too_large_for_a_source_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MOST_BYTES", 2 << 20)
    (tmp_path / "attention").mkdir()
    (tmp_path / "attention" / "__init__.py").write_text(INIT)
    (tmp_path / "attention" / "core").write_bytes(b"0" * (3 << 20))
    with pytest.raises(CannotDo, match="has 3 MiB, 3 of them in attention/core, and 2 are the most"):
        from_directory(tmp_path)


def test_a_link_that_leads_up_does_not_go_on_for_ever(tmp_path: Path) -> None:
    (tmp_path / "attention").mkdir()
    (tmp_path / "attention" / "__init__.py").write_text(INIT)
    (tmp_path / "attention" / "loop").symlink_to("..")
    assert set(files(from_directory(tmp_path))) == {"attention/__init__.py"}


def test_of_several_names_the_first_that_git_knows_is_the_base_and_the_report_says_what_was_passed_over(
    here: tuple[Path, Git],
) -> None:
    root, run = here
    run("commit", "-q", "--allow-empty", "-m", "second")
    zeros, unreachable = "0" * 40, "b" * 40
    assert source.choice(root, f"{zeros} HEAD^1") == ("HEAD^1", f", since git knows no {zeros} here")
    assert source.choice(root, f"{zeros} {unreachable} HEAD") == (
        "HEAD",
        f", since git knows no {zeros} and no {unreachable} here",
    )
    assert source.choice(root, " HEAD^1") == ("HEAD^1", "")  # where the first is not set
    assert source.choice(root, "HEAD HEAD^1") == ("HEAD", "")
    assert source.choice(root, "trunk... HEAD^1") == ("trunk...", "")
    assert source.choice(root, zeros) == (zeros, "")  # alone it is refused, as ever
    (root / "two words").mkdir()
    assert source.choice(root, str(root / "two words")) == (str(root / "two words"), "")


def test_a_revision_is_what_was_committed_and_equal_source_has_an_equal_digest_whichever_way_it_is_packed(
    here: tuple[Path, Git],
) -> None:
    root = here[0]
    (root / "attention" / "__init__.py").write_text("KERNELS = {'edited': len}\n")
    committed = from_revision(root, "trunk")
    assert committed.origin.startswith("revision trunk (")
    assert files(committed) == {"attention/__init__.py": INIT}
    assert committed.sha256 != from_directory(root).sha256
    (root / "attention" / "__init__.py").write_text(INIT)
    assert committed.sha256 == from_directory(root).sha256 == from_directory(root / "attention").sha256
    assert from_directory(root).archive == from_directory(root / "attention").archive
    assert {one.date_time[0] for one in ZipFile(io.BytesIO(committed.archive)).infolist()} == {1980}  # whenever packed


def test_compiled_files_are_not_source(package: Callable[..., Path]) -> None:
    directory = package(__init__="KERNELS = {}\n")
    digest = from_directory(directory).sha256
    (directory / "attention" / "__pycache__").mkdir()
    (directory / "attention" / "__pycache__" / "x.pyc").write_bytes(b"1")
    assert from_directory(directory).sha256 == digest


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("no-such", "base 'no-such' is neither a directory nor a revision that git knows in .*: check the name"),
        ("--output=x", "is neither a directory nor a revision"),
        (5000 * "x", "x' is neither a directory nor a revision that git knows in"),
        (".", "base '.' is a directory, and must be a revision"),
        ("unrelated...", "is the merge base of unrelated and HEAD, and git finds none in .*: fetch more history"),
        ("no-such...", "is neither a directory nor a revision"),
        ("HEAD", r"revision HEAD \(\w{12}\) has no attention/: choose one that has the package"),
    ],
)
def test_a_revision_that_cannot_be_had_is_one_sentence(here: tuple[Path, Git], revision: str, message: str) -> None:
    root, run = here
    run("branch", "unrelated", run("commit-tree", "HEAD^{tree}", "-m", "unrelated").strip())
    run("rm", "-q", "-r", "attention")
    committed(run)
    with pytest.raises(CannotDo, match=message):
        from_revision(root, revision)


def test_outside_of_a_repository_a_revision_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match=r"not a git repository.*: run pytest with --rootdir=DIR of a repository"):
        from_revision(tmp_path, "main")


def test_a_directory_without_the_package_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match=r"holds no attention/__init__.py: name a directory that holds the package"):
        from_directory(tmp_path)


def test_without_git_a_revision_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotDo, match="git could not be run .*: install it, or name a directory"):
        from_revision(tmp_path, "main")
