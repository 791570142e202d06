"""Packing a source and loading it as the base side."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import attention
from bench.plain.errors import CannotDo
from bench.sides.side import EXTENSIONS, base_side
from bench.sides.source import Source, from_directory, from_revision

HEAD_DIRECTORY = Path(attention.__file__ or "").parents[1]


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


def test_the_base_side_is_another_copy_of_the_code_and_works() -> None:
    with base_side(from_directory(HEAD_DIRECTORY)) as base:
        assert list(base.kernels) == sorted(attention.KERNELS)
        assert list(base.modules) == list(attention.MODULES)
        kernel = base.kernels["sdpa"]
        assert type(kernel) is not attention.Kernel
        assert type(kernel).__module__ == "attention.registry"
        assert sys.modules["attention"] is attention
        with base.view:
            assert sys.modules["attention"] is not attention
        q = torch.randn(1, 2, 4, 8)
        assert torch.equal(kernel(q, q, q), attention.KERNELS["sdpa"](q, q, q))


def test_nothing_of_the_base_is_left_when_it_is_done_with() -> None:
    before, path = dict(sys.modules), list(sys.path)
    with base_side(from_directory(HEAD_DIRECTORY)) as base, base.view:
        directory = Path(sys.modules["attention"].__path__[0])
        assert directory.is_dir()
    assert {name: module for name, module in sys.modules.items() if name.startswith("attention")} == {
        name: module for name, module in before.items() if name.startswith("attention")
    }
    assert sys.path == path
    assert not directory.exists()


def test_equal_source_has_an_equal_digest_whichever_way_it_is_packed(repository: Path) -> None:
    committed = from_revision(repository, "after")
    assert committed.sha256 != from_directory(repository).sha256
    (repository / "attention" / "__init__.py").write_text("KERNELS = {'k': len}\n")
    assert committed.sha256 == from_directory(repository).sha256 == from_directory(repository / "attention").sha256
    assert from_directory(repository).archive == from_directory(repository / "attention").archive


def test_a_revision_holds_what_was_committed_and_not_the_working_tree(repository: Path) -> None:
    source = from_revision(repository, "after")
    assert source.origin.startswith("revision after (")
    with base_side(source) as base:
        assert list(base.kernels) == ["k"]


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise ValueError('broken on purpose')\n", "does not import (ValueError: broken on purpose)"),
        ("def f(:\n", "does not import (SyntaxError: invalid syntax"),
        ("raise SystemExit(0)\n", "does not import (SystemExit: 0)"),
        ("import no_such_package_at_all\n", "does not import (ModuleNotFoundError"),
        ("KERNELS = {}\n", "the base has no attention.KERNELS: choose a base that registers some"),
        ("x = 1\n", "has no attention.KERNELS"),
    ],
)
def test_a_base_that_cannot_stand_alone_is_refused_in_one_sentence(
    package: Callable[..., Path], text: str, message: str
) -> None:
    source = from_directory(package(__init__=text))
    with pytest.raises(CannotDo) as refused, base_side(source):
        pass
    assert message in str(refused.value)
    assert sys.modules["attention"] is attention


@pytest.mark.parametrize(
    "asking",
    [
        "import attention.inner as found",
        "from attention import inner as found",
        "import importlib; found = importlib.import_module('attention.inner')",
        "import sys; import attention.inner; found = sys.modules['atten' + 'tion'].inner",
        "found = __import__('attention.inner').inner",
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_base_finds_its_own_modules_however_and_whenever_it_asks(
    package: Callable[..., Path], asking: str, late: bool
) -> None:
    asked = "def k():\n" + "\n".join(f"    {line}" for line in asking.split("; ")) + "\n    return found.WHO\n"
    text = f"{asked}KERNELS = {{'k': k}}\n" if late else f"{asked}X = k()\nKERNELS = {{'k': lambda: X}}\n"
    with base_side(from_directory(package(__init__=text, inner="WHO = 'base'\n"))) as base, base.view:
        assert base.kernels["k"]() == "base"
    assert "attention.inner" not in sys.modules


@pytest.mark.parametrize("archive", [b"", b"no zip at all"])
def test_an_archive_that_is_no_zip_is_refused_in_one_sentence(archive: bytes) -> None:
    with (
        pytest.raises(CannotDo, match="the source in baseline x is not a zip archive"),
        base_side(Source("baseline x", archive)),
    ):
        pass


def test_a_source_is_unpacked_once_and_builds_its_extensions_once_for_all_that_have_the_same_home(
    package: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXTENSIONS, "the user's")
    text = f"import os\nKERNELS = {{'k': (__file__, os.environ['{EXTENSIONS}'])}}\n"
    source, edited = (from_directory(package(__init__=text + note)) for note in ("", "# edited"))

    def places(source: Source, *, alone: bool = False) -> tuple[str, str]:
        """Where the source's file is, and where its extensions are built."""
        with base_side(source, alone=alone, home=tmp_path) as side:
            found: tuple[str, str] = side.kernels["k"]
        return found

    beside = places(source)
    assert os.environ[EXTENSIONS] == "the user's"
    assert beside == places(source)
    assert all(place.startswith(str(tmp_path)) for place in beside)
    assert not set(beside) & set(places(edited))
    alone = places(source, alone=True)
    assert os.environ[EXTENSIONS] == alone[1]  # a kernel may build at its first call, too
    assert (alone[0], alone[1] == beside[1]) == (beside[0], False)


def test_a_process_whose_source_another_unpacked_meanwhile_takes_that(
    package: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, unpack = from_directory(package(__init__="KERNELS = {'k': __file__}\n")), Source.unpack

    def late(of: Source, directory: Path) -> None:
        unpack(of, tmp_path / f"source-{of.sha256}")  # by the other process
        unpack(of, directory)

    monkeypatch.setattr(Source, "unpack", late)
    with base_side(source, home=tmp_path) as side:
        assert str(side.kernels["k"]) == str(tmp_path / f"source-{source.sha256}" / "attention" / "__init__.py")
    assert list(tmp_path.glob("attention-base-*")) == []
