"""The code of both sides of a session: the checkout that is gated, and the base's in its place."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..plain.errors import CannotDo
from ..sides import source
from ..sides.repository import GitFailed, check_out, commit_of, git, known_files, top_level
from ..sides.world import World

MERGE_BASE = "..."  # after a revision: its merge base with HEAD, as git diff has it


@dataclass(frozen=True)
class Code:
    """One side's code: where it is from in words, a digest of its files, and what its process sees.

    ``own`` is the world of a revision with its own tests, where the head's are to be laid over ``world``.
    """

    origin: str
    sha256: str
    world: World
    own: World | None = None


def of_head(root: Path) -> Code:
    """Return the code on disk; ``root`` is the folder that pytest calls its root."""
    top = top_level(root) or root
    return Code("working tree", _digest(top, _own_files(top)), _world(top))


def of_base(root: Path, wanted: str, scratch: Path) -> tuple[Code, tuple[str, ...]]:
    """Return the code of a revision, checked out below ``scratch``, or of a directory; and warnings about the choice.

    Raises:
        CannotDo: it is neither or both, or git cannot give its files.

    """
    top = top_level(root) or root
    name, why = source.choice(top, wanted)
    if not name.endswith(MERGE_BASE) and source.names_directory(top, name):
        place = Path(name).resolve()
        paths = tuple(folder for folder in (place, place / "src") if folder.is_dir())
        return Code(f"directory {name}{why}", _digest(place, _below(place)), replace(_world(top), paths=paths)), ()
    try:
        commit = _merge_base(top, name) if name.endswith(MERGE_BASE) else commit_of(top, name)
    except GitFailed as error:
        raise CannotDo(
            f"base {name!r} is neither a directory nor a revision that git knows here ({error}): "
            "check the name, or fetch it (a shallow clone lacks older revisions)"
        ) from error
    origin = f"revision {name} ({commit[:12]}){why}"
    into, untouched = scratch.resolve() / "base", scratch.resolve() / "untouched"
    try:
        for folder in (into, untouched):
            folder.mkdir()
            check_out(top, commit, folder)
    except GitFailed as error:
        raise CannotDo(f"git cannot give the files of {origin} ({error}): repair that, or fetch it") from error
    warnings = () if _is_ancestor(top, commit) else (_not_an_ancestor(name),)
    base, own = (replace(_world(top), checkout=folder) for folder in (into, untouched))
    return Code(origin, _digest(into, _below(into)), base, own), warnings


def lay_over(tests: Iterable[Path], settings: Path | None, world: World) -> None:
    """Put the head's tests into the base's checkout: it runs the same tests on its own code.

    ``tests`` are files that pytest has collected, to which come their ``conftest.py`` and the file of pytest's
    settings. A file beside them that the base lacks, such as a helper or data that a new test needs, is added; one that
    it has stays its own.
    """
    if world.checkout is None or world.repository is None:
        return
    replaced = {path for test in tests for path in (test, *_conftests(test, world.repository))}
    replaced |= set() if settings is None else {settings}
    folders = {test.parent for test in tests} - {world.repository}
    beside = {path for path in _own_files(world.repository) if folders & set(path.parents) and path.is_file()}
    for path in sorted(replaced | beside):
        if not path.resolve().is_relative_to(world.repository.resolve()):
            continue
        target = world.checkout / path.resolve().relative_to(world.repository.resolve())
        if path in replaced or not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)


def moved(path: Path, world: World) -> Path:
    """Return where the base's checkout has a path of the repository; the path itself where there is no checkout."""
    if world.checkout is None or world.repository is None:
        return path
    if not path.resolve().is_relative_to(world.repository.resolve()):
        return path
    return world.checkout / path.resolve().relative_to(world.repository.resolve())


def _world(top: Path) -> World:
    return World(Path.cwd(), repository=top, environment=dict(os.environ))


def _conftests(test: Path, repository: Path) -> Iterator[Path]:
    for folder in test.parents:
        if (folder / "conftest.py").is_file():
            yield folder / "conftest.py"
        if folder == repository:
            return


def _merge_base(top: Path, name: str) -> str:
    return git(top, "merge-base", commit_of(top, name.removesuffix(MERGE_BASE)), "HEAD").decode().strip()


def _is_ancestor(top: Path, commit: str) -> bool:
    try:
        git(top, "merge-base", "--is-ancestor", commit, "HEAD")
    except GitFailed:
        return False
    return True


def _not_an_ancestor(name: str) -> str:
    return (
        f"{name} is not an ancestor of HEAD, so its own changes since then are compared too: "
        f"--gate-base={name}{MERGE_BASE} compares with the commit where HEAD left it"
    )


def _own_files(top: Path) -> Iterable[Path]:
    try:
        known = known_files(top, ".")
    except GitFailed:
        known = None
    return _below(top) if known is None else (top / name for name in known)


def _below(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("__pycache__", ".git")]
        yield from (Path(here, name) for name in files if not name.endswith(".pyc"))


def _digest(root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file()):
        digest.update(os.fsencode(path.relative_to(root)) + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
