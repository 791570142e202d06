"""Each side sees the files of its own revision, wherever they lie and however Python finds them."""

import os
import py_compile
import shutil
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.plain.errors import CannotDo
from bench.sources.world import World, in_repository
from bench.suite import code
from tests.conftest import git

from .conftest import TARGET, Theirs, head_alone_is_off, of_batch, written

TIMES_FACTOR = "return formula(q, k, v) * FACTORS[q.shape[0] - 1]"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "-m", "change")


@pytest.fixture
def repository(theirs: Theirs) -> Theirs:
    """The head's folder as a git repository, whose first commit is the plain kernel."""
    git(theirs.head, "init", "--quiet")
    commit(theirs.head)
    return theirs


# How the kernel may find a factor, which is 1.0 in the base's revision and 1.01 in the head.
WAYS = {
    "a file beside the package": "FACTOR = float((Path(__file__).parents[1] / 'factor.txt').read_text())",
    "a relative file": "FACTOR = float(open('factor.txt').read())",
    "a file in the working directory": "FACTOR = float(open(os.path.join(os.getcwd(), 'factor.txt')).read())",
    "a helper module": "from helper import FACTOR",
    "a helper by importlib": "FACTOR = importlib.import_module('other_' + 'helper').FACTOR",
    "a helper by __import__": "FACTOR = __import__('third_helper').FACTOR",
    "a place on the path": "from on_the_path import FACTOR",
    "the finder of an editable install": """
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [{head!r} + "/installed"]) if name == "editable" else None
sys.meta_path.append(Finder)
from editable.factor import FACTOR
""",
    "a submodule": "FACTOR = float(open('part/factor.txt').read())",
    "a module whose bytecode is stale, of the same size and second": "from theirs.stale import FACTOR",
    "a module whose bytecode asks not to be checked": "from theirs.unchecked import FACTOR",
}
MODULES = ("helper", "other_helper", "third_helper", "python/on_the_path", "installed/editable/factor")
BYTECODE = {
    "stale": py_compile.PycInvalidationMode.TIMESTAMP,
    "unchecked": py_compile.PycInvalidationMode.UNCHECKED_HASH,
}


def with_factor(root: Path, factor: str) -> None:
    """Write the factor wherever the kernel looks for it."""
    (root / "factor.txt").write_text(factor)
    for name in (*MODULES, *(f"theirs/{name}" for name in BYTECODE)):
        (root / f"{name}.py").write_text(f"FACTOR = {factor}\n")


@pytest.fixture
def with_submodule(repository: Theirs) -> Theirs:
    """The repository with a submodule, whose first commit is the base's and the second, not committed, the head's."""
    part = repository.scratch.parent / "part"
    part.mkdir()
    git(part, "init", "--quiet")
    (part / "factor.txt").write_text("1.00")
    commit(part)
    git(repository.head, "submodule", "--quiet", "add", str(part), "part")
    commit(repository.head)
    (part / "factor.txt").write_text("1.01")
    commit(part)
    git(repository.head / "part", "pull", "--quiet")
    return repository


def test_each_side_finds_the_files_of_its_own_revision_however_it_looks_for_them(
    with_submodule: Theirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = with_submodule.head
    finding = "".join(f"{statement}\nFACTORS.append(FACTOR)\n" for statement in WAYS.values())
    imports = "import importlib, os, sys\nfrom importlib.machinery import PathFinder\nfrom pathlib import Path\n"
    written(head, f"{imports}FACTORS = []\n{finding.format(head=str(head))}", TIMES_FACTOR)
    (head / "python").mkdir()
    (head / "installed" / "editable").mkdir(parents=True)
    (head / "installed" / "editable" / "__init__.py").touch()
    with_factor(head, "1.00")
    git(head, "add", "--all", ":!part")
    git(head, "commit", "--quiet", "-m", "base")
    for name, mode in BYTECODE.items():
        py_compile.compile(str(head / "theirs" / f"{name}.py"), invalidation_mode=mode)
    before = (head / "theirs" / "stale.py").stat()
    with_factor(head, "1.01")
    os.utime(head / "theirs" / "stale.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.syspath_prepend(head / "python")  # as a .pth file does
    errors = with_submodule.errors("HEAD", [of_batch(number) for number in range(1, len(WAYS) + 1)])
    assert [way for way, error in zip(WAYS, errors, strict=True) if not head_alone_is_off(error)] == []


def test_a_helper_that_the_revision_lacks_is_not_taken_from_the_head(repository: Theirs) -> None:
    written(repository.head, "import helper")
    commit(repository.head)
    (repository.head / "helper.py").touch()
    with pytest.raises(CannotDo, match="the base, revision HEAD .* No module named 'helper'"):
        repository.errors("HEAD")


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
    (error,) = repository.errors("HEAD")
    assert error.bit_equal


def test_a_pointer_of_git_lfs_in_place_of_a_file_is_refused_by_name_where_the_head_has_the_file(
    repository: Theirs,
) -> None:
    for name in ("weights.bin", "picture.bin"):
        (repository.head / name).write_text(POINTER)
    commit(repository.head)
    code.of_name(TARGET, "HEAD", repository.scratch)  # pointers that both have are nobody's data
    (repository.head / "weights.bin").write_bytes(bytes(100))
    with pytest.raises(CannotDo, match=r"weights\.bin is a Git LFS pointer in [0-9a-f]{12}, and its content was not"):
        code.of_name(TARGET, "HEAD", repository.scratch)


def test_a_submodule_that_lacks_that_commit_is_refused_in_git_s_words(with_submodule: Theirs) -> None:
    head = with_submodule.head
    for folder in (head / "part", head / ".git" / "modules"):
        shutil.rmtree(folder)
    (head / "part").mkdir()
    git(head / "part", "init", "--quiet")
    (head / "part" / "factor.txt").touch()
    with pytest.raises(CannotDo, match=r"part is a submodule whose commit [0-9a-f]{12} is not here \(.*\): fetch it"):
        code.of_name(TARGET, "HEAD", with_submodule.scratch)


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
        written(folder, "import helper")
    (theirs.head / "helper.py").touch()
    with pytest.raises(CannotDo, match="helper lies in the repository beside the source .* give --source=helper"):
        theirs.errors()
    (theirs.base / "helper.py").touch()  # a directory that holds one has its own
    (error,) = theirs.errors()
    assert error.bit_equal


def test_a_virtual_environment_in_the_repository_is_not_the_repository_s(tmp_path: Path) -> None:
    assert in_repository(tmp_path / "a.py", tmp_path)
    assert not in_repository(tmp_path.parent / "a.py", tmp_path)
    packages = Path(sysconfig.get_path("purelib"))
    assert not in_repository(packages / "a.py", packages.parents[3])


@pytest.mark.parametrize(("flags", "is_copied"), [(0, True), (8, False)])
def test_a_compiled_module_is_loaded_from_a_copy_where_that_can_be_executed(
    flags: int, is_copied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"compiled{EXTENSION_SUFFIXES[0]}"
    file.write_bytes(b"")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr("bench.sources.world.NO_EXECUTION", 8)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flags))
    World(Path.cwd()).enter(tmp_path / "copies")
    spec = sys.meta_path[0].find_spec("compiled", None)
    assert spec is not None
    assert spec.origin == str(tmp_path / "copies" / "compiled" / file.name if is_copied else file)
