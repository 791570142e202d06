"""Each side sees the files of its own revision, wherever they lie and however Python finds them."""

import os
import py_compile
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from bench.judging.verdict import Verdict
from bench.plain.errors import CannotDo
from bench.sources.world import in_repository
from bench.suite import code

from .conftest import TARGET, Theirs, written

TIMES_FACTOR = "return formula(q, k, v) * FACTOR"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"]
    allowed = ["-c", "protocol.file.allow=always"]
    subprocess.run(["git", "-C", root, *identity, *allowed, *arguments], check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "-m", "change")


@pytest.fixture
def repository(theirs: Theirs) -> Theirs:
    """The head's folder as a git repository, whose first commit is the plain kernel."""
    git(theirs.head, "init", "--quiet")
    commit(theirs.head)
    return theirs


def files(root: Path, **text: str) -> None:
    for name, content in text.items():
        (root / f"{name}.py").write_text(content)


@pytest.mark.parametrize(
    "read",
    [
        "from pathlib import Path; FACTOR = float((Path(__file__).parents[1] / 'factor.txt').read_text())",
        "FACTOR = float(open('factor.txt').read())",
        "import os; FACTOR = float(open(os.path.join(os.getcwd(), 'factor.txt')).read())",
    ],
    ids=["beside the package", "relative", "in the working directory"],
)
def test_a_data_file_is_that_of_the_side_s_revision(repository: Theirs, read: str) -> None:
    written(repository.head, read, TIMES_FACTOR)
    (repository.head / "factor.txt").write_text("1.0")
    commit(repository.head)
    (repository.head / "factor.txt").write_text("1.01")
    assert repository.compare("HEAD").verdict is Verdict.DRIFTED


@pytest.mark.parametrize(
    "imported",
    [
        "from helper import FACTOR",
        "import importlib; FACTOR = importlib.import_module('hel' + 'per').FACTOR",
        "FACTOR = __import__('helper').FACTOR",
    ],
)
def test_a_helper_module_beside_the_package_is_that_of_the_side_s_revision(repository: Theirs, imported: str) -> None:
    written(repository.head, imported, TIMES_FACTOR)
    files(repository.head, helper="FACTOR = 1.0\n")
    commit(repository.head)
    files(repository.head, helper="FACTOR = 1.01\n")
    assert repository.compare("HEAD").verdict is Verdict.DRIFTED


def test_a_helper_that_the_revision_lacks_is_not_taken_from_the_head(repository: Theirs) -> None:
    written(repository.head, "from helper import FACTOR", TIMES_FACTOR)
    commit(repository.head)
    files(repository.head, helper="FACTOR = 1.0\n")
    with pytest.raises(CannotDo, match="the base, revision HEAD .* No module named 'helper'"):
        repository.compare("HEAD")


@pytest.mark.parametrize("outwards", [False, True], ids=["into src", "out of src"])
def test_a_package_that_moved_is_found(repository: Theirs, monkeypatch: pytest.MonkeyPatch, *, outwards: bool) -> None:
    head = repository.head
    (head / "src").mkdir()
    git(head, "mv", "theirs", "src/theirs")
    if outwards:
        commit(head)
        git(head, "mv", "src/theirs", "theirs")
    else:
        monkeypatch.syspath_prepend(head / "src")
    sys.path_importer_cache.clear()
    assert repository.compare("HEAD").base_fingerprint is not None


EDITABLE = """
import sys
from importlib.machinery import PathFinder
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [{folder!r}]) if name == "editable" else None
sys.meta_path.append(Finder)
from editable.factor import FACTOR
"""


def test_what_the_finder_of_an_editable_install_finds_in_the_repository_is_of_the_side_s_revision(
    repository: Theirs,
) -> None:
    package = repository.head / "python" / "editable"
    package.mkdir(parents=True)
    files(package, __init__="", factor="FACTOR = 1.0\n")
    written(repository.head, EDITABLE.format(folder=str(package.parent)), TIMES_FACTOR)
    commit(repository.head)
    files(package, factor="FACTOR = 1.01\n")
    assert repository.compare("HEAD").verdict is Verdict.DRIFTED


def test_a_place_on_the_path_in_the_repository_is_that_of_the_checkout(
    repository: Theirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = repository.head / "python"
    python.mkdir()
    monkeypatch.syspath_prepend(python)  # as a .pth file does
    files(python, on_the_path="FACTOR = 1.0\n")
    written(repository.head, "from on_the_path import FACTOR", TIMES_FACTOR)
    commit(repository.head)
    files(python, on_the_path="FACTOR = 1.01\n")
    assert repository.compare("HEAD").verdict is Verdict.DRIFTED


def test_stale_bytecode_of_the_same_size_and_second_is_not_run(theirs: Theirs) -> None:
    kernel = written(theirs.head, "FACTOR = 1.00", TIMES_FACTOR) / "theirs" / "kernel.py"
    written(theirs.base, "FACTOR = 1.00", TIMES_FACTOR)
    before = kernel.stat()
    py_compile.compile(str(kernel), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    written(theirs.head, "FACTOR = 1.01", TIMES_FACTOR)
    os.utime(kernel, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert theirs.compare().verdict is Verdict.DRIFTED


def test_bytecode_that_asks_not_to_be_checked_is_not_run(theirs: Theirs) -> None:
    kernel = written(theirs.head, "FACTOR = 1.0", TIMES_FACTOR) / "theirs" / "kernel.py"
    py_compile.compile(str(kernel), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    written(theirs.head, "FACTOR = 1.01", TIMES_FACTOR)
    written(theirs.base, "FACTOR = 1.0", TIMES_FACTOR)
    assert theirs.compare().verdict is Verdict.DRIFTED


def test_a_pointer_of_git_lfs_in_place_of_a_file_is_refused_by_name(repository: Theirs) -> None:
    (repository.head / "weights.bin").write_text(POINTER)
    commit(repository.head)
    (repository.head / "weights.bin").write_bytes(bytes(100))
    with pytest.raises(CannotDo, match=r"weights\.bin is a Git LFS pointer in [0-9a-f]{12}, and its content was not"):
        repository.compare("HEAD")


def test_pointers_that_the_head_has_too_are_nobody_s_data(repository: Theirs) -> None:
    (repository.head / "picture.bin").write_text(POINTER)
    commit(repository.head)
    assert repository.compare("HEAD").verdict is not Verdict.ERROR


@pytest.fixture
def with_submodule(repository: Theirs) -> Theirs:
    """The package reads a factor from a submodule, whose first commit is the base's and the second the head's."""
    part = repository.scratch.parent / "part"
    part.mkdir()
    git(part, "init", "--quiet")
    (part / "factor.txt").write_text("1.0")
    commit(part)
    git(repository.head, "submodule", "--quiet", "add", str(part), "part")
    written(repository.head, "FACTOR = float(open('part/factor.txt').read())", TIMES_FACTOR)
    commit(repository.head)
    (part / "factor.txt").write_text("1.01")
    commit(part)
    git(repository.head / "part", "pull", "--quiet")
    return repository


def test_a_submodule_is_of_the_commit_that_the_revision_names(with_submodule: Theirs) -> None:
    assert with_submodule.compare("HEAD").verdict is Verdict.DRIFTED


def test_a_submodule_that_lacks_that_commit_is_refused_in_git_s_words(with_submodule: Theirs) -> None:
    head = with_submodule.head
    subprocess.run(["rm", "-rf", head / "part", head / ".git" / "modules"], check=True)
    (head / "part").mkdir()
    git(head / "part", "init", "--quiet")
    (head / "part" / "factor.txt").write_text("1.01")
    with pytest.raises(CannotDo, match=r"part is a submodule whose commit [0-9a-f]{12} is not here \(.*\): fetch it"):
        with_submodule.compare("HEAD")


def test_a_package_that_is_imported_from_elsewhere_than_the_gated_checkout_is_refused(
    theirs: Theirs, tmp_path: Path
) -> None:
    checkout = written(tmp_path / "worktree")
    with pytest.raises(CannotDo) as refusal:
        code.of_head(TARGET, checkout)
    assert str(theirs.head) in str(refusal.value)
    assert str(checkout) in str(refusal.value)


def test_a_package_of_a_folder_below_the_gated_checkout_s_root_is_its_own(repository: Theirs) -> None:
    (repository.head / "gate").mkdir()
    assert code.of_head(TARGET, repository.head / "gate").world.repository == repository.head


def test_a_stored_source_that_needs_a_module_beside_it_is_refused(theirs: Theirs) -> None:
    for folder in (theirs.head, theirs.base):
        written(folder, "from helper import FACTOR", TIMES_FACTOR)
    files(theirs.head, helper="FACTOR = 1.0\n")
    with pytest.raises(CannotDo, match="helper lies in the repository beside the source .* give --source=helper"):
        theirs.compare()
    files(theirs.base, helper="FACTOR = 0.5\n")  # a directory that holds one has its own
    assert theirs.compare().verdict is not Verdict.ERROR


def test_a_virtual_environment_in_the_repository_is_not_the_repository_s(tmp_path: Path) -> None:
    assert in_repository(tmp_path / "a.py", tmp_path)
    assert not in_repository(tmp_path.parent / "a.py", tmp_path)
    packages = Path(sysconfig.get_path("purelib"))
    assert not in_repository(packages / "a.py", packages.parents[3])
