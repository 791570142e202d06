"""The code of both sides of a session: the checkout that is gated, and the base's in its place."""

import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.machinery import all_suffixes
from pathlib import Path
from tempfile import TemporaryDirectory

from ..plain.errors import CannotDo
from ..plain.files import make_way
from ..sources import source
from ..sources.repository import MERGE_BASE, GitFailed, files_of, git, is_revision, known_commit, known_files
from ..sources.world import LARGEST_COPY, World
from . import stored
from .stored import Stored

CODE = frozenset(all_suffixes())  # of the names of files that Python imports


@dataclass(frozen=True)
class RepositoryCode:
    """One side's code: where it is from in words, a digest of its files, and what its process sees.

    The working directory and the environment of its world are set when a session is started.
    ``own`` is the world of a revision with its own tests, where the head's are to be laid over ``world``. ``named`` is
    how the same code is named later on, when a branch may have moved.
    """

    origin: str
    sha256: str
    world: World
    own: World | None = None
    named: str | None = None


def of_disk(top: Path) -> RepositoryCode:
    """Return the code on disk; ``top`` is the root of the repository, or of pytest where git knows of none.

    Files that git does not track count if they are Python's: others, such as reports, may come with each run.
    """
    known = _known(top)
    tracked = {path for path, is_tracked in known.items() if is_tracked}
    return RepositoryCode("working tree", _digest(top, _source(known, tracked)), _world(top))


def of_head(top: Path, revision: str, scratch: Path) -> RepositoryCode:
    """Return the code of a revision that is compared instead of what is on disk.

    Raises:
        CannotDo: git knows none of that name, or cannot give its files.

    """
    commit = known_commit(top, revision, "head")
    return of_commit(top, Stored(commit, {}), f"revision {revision} ({commit[:12]})", scratch)


def of_name(top: Path, wanted: str, scratch: Path) -> tuple[RepositoryCode, tuple[str, ...]]:
    """Return the code of a directory, of a stored baseline, or of a revision; and warnings about the choice.

    What git has is checked out below ``scratch``.

    Raises:
        CannotDo: there is none of that name, it means several, or git cannot give its files.

    """
    name, why = source.choice(top, wanted)
    is_file = os.path.isfile(name)  # noqa: PTH113  # Path would raise for a name that is too long
    if name.endswith(".json") and (is_file or not is_revision(top, name)):
        return of_stored(top, Path(name), scratch), ()
    if not name.endswith(MERGE_BASE) and source.names_directory(top, name):
        place = Path(name).resolve()
        if top.is_relative_to(place) and place != top:
            raise CannotDo(
                f"base {name} holds the repository {top} itself: name the folder that holds the base's package"
            )
        paths = tuple(folder for folder in (place, place / "src") if folder.is_dir())
        world = replace(_world(top), paths=paths)
        return RepositoryCode(f"directory {name}{why}", _digest(place, _below(place)), world, named=str(place)), ()
    commit, warnings = known_commit(top, name), tuple[str, ...]()
    try:
        git(top, "merge-base", "--is-ancestor", commit, "HEAD")
    except GitFailed:
        why_not = f"{name} is not an ancestor of HEAD, so its own changes since then are compared too"
        warnings = (f"{why_not}: --gate-base={name}{MERGE_BASE} compares with the commit where HEAD left it",)
    return of_commit(top, Stored(commit, {}), f"revision {name} ({commit[:12]}){why}", scratch), warnings


def of_stored(top: Path, path: Path, scratch: Path) -> RepositoryCode:
    """Return the code that a stored baseline was measured with.

    Raises:
        CannotDo: the file is none, or git does not have its commit.

    """
    found = stored.read(path)
    found = replace(found, commit=known_commit(top, found.commit))
    edits = f" with {len(found.edits)} edited files" if found.edits else ""
    code = of_commit(top, found, f"baseline {path.name} ({found.commit[:12]}{edits})", scratch)
    return replace(code, named=str(path))


def of_commit(top: Path, found: Stored, origin: str, scratch: Path) -> RepositoryCode:
    """Return the code of a commit and of edits to it, checked out twice: the tests of one are replaced."""
    folders = [scratch.resolve() / name for name in ("untouched", "checkout")]
    for folder in folders:
        with writing(scratch):
            folder.mkdir(parents=True)
            files_of(top, found.commit, origin, folder)
            tracked = {*_below(folder)}
            found.apply(folder)
    own, world = (replace(_world(top), checkout=folder) for folder in folders)
    digest = _digest(folder, _source(_below(folder), tracked))
    return RepositoryCode(origin, digest, world, own, found.commit[:12])


def lay_over(tests: Iterable[Path], settings: Path | None, world: World) -> None:
    """Put the head's tests into the base's checkout: it runs the same tests on its own code.

    ``tests`` are files that pytest has collected, to which come their ``conftest.py`` and the file of pytest's
    settings. A file beside them that the base lacks, such as a helper or data that a new test needs, is added (a large
    one as a link); one that it has stays its own.
    """
    if world.checkout is None or world.repository is None:
        return
    replaced = {path for test in tests for path in (test, *_conftests(test, world.repository))}
    replaced |= set() if settings is None else {settings}
    folders = {test.parent for test in tests} - {world.repository}
    known = (path for path in _known(world.repository) if folders & set(path.parents))
    beside = {path for path in (*known, *_data(folders)) if path.is_file() and os.access(path, os.R_OK)}
    for path in sorted(replaced | beside):
        target = moved(path, world)
        if target != path and (path in replaced or not target.exists()):
            through = target.parent.resolve() / target.name  # links of folders
            with writing(world.checkout):
                place = through if through.is_relative_to(world.checkout) else target
                make_way(place, world.checkout)
                if path in replaced or path.stat().st_size <= LARGEST_COPY:
                    shutil.copy2(path, place)
                else:
                    place.symlink_to(path)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Refuse in one sentence what cannot be written there."""
    try:
        yield
    except OSError as error:
        named = place if error.filename is None else error.filename
        raise CannotDo(f"{named} cannot be written ({error.strerror}): set TMPDIR to a place with more room") from error


def present(world: World) -> frozenset[Path]:
    """Return the base's checkout and all that is in it; nothing where there is no checkout."""
    return frozenset() if world.checkout is None else frozenset({world.checkout, *world.checkout.rglob("*")})


@contextmanager
def holding_only(given: frozenset[Path], world: World) -> Iterator[None]:
    """Hide what tests have made in the base's checkout since it held the ``given`` paths, until the context ends.

    A test may write a file once, such as random data, and read it from then on. If processes that run the test again
    found that file, the data would be the same in each of the base's runs and other than the head's.
    """
    if world.checkout is None:
        yield
        return

    def made() -> list[Path]:
        return [path for path in present(world) - given if path.parent in given]

    with TemporaryDirectory(dir=world.checkout.parent) as aside:
        hidden = {path: Path(aside, str(i)) for i, path in enumerate(made())}
        try:
            for path, there in hidden.items():
                path.rename(there)
            yield
        finally:
            for path in made():
                if path not in hidden:
                    make_way(path, world.checkout)
            for path, there in hidden.items():
                if os.path.lexists(there):
                    make_way(path, world.checkout)
                    there.rename(path)


def moved(path: Path, world: World) -> Path:
    """Return where the base's checkout has a path of the repository; the path itself where there is no checkout."""
    if world.checkout is None or world.repository is None:
        return path
    for inside, repository in ((path, world.repository), (path.resolve(), world.repository.resolve())):
        if inside.is_relative_to(repository):  # as it is named, since node ids are: links lead elsewhere
            return world.checkout / inside.relative_to(repository)
    return path


def _world(top: Path) -> World:
    return World(top, repository=top)


def _conftests(test: Path, repository: Path) -> Iterator[Path]:
    for folder in test.parents:
        if (folder / "conftest.py").is_file():
            yield folder / "conftest.py"
        if folder == repository:
            return


def _known(top: Path) -> dict[Path, bool]:
    """Map each file that git does not ignore to whether git tracks it; outside of git every file counts.

    A submodule's files are among them, as they are in a checkout.
    """
    try:
        known = known_files(top, ".")
    except GitFailed:
        known = None
    if known is None:
        return dict.fromkeys(_below(top), True)
    found = {top / name: tracked for name, tracked in known.items()}
    for path in [path for path, tracked in found.items() if tracked and (path / ".git").exists()]:
        found |= _known(path)
    return found


def _data(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the files below folders that are no code, whatever git says of them, but for hidden ones."""
    for folder in folders:
        for path in _below(folder):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.suffix not in CODE and not hidden:
                yield path


def _below(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("__pycache__", ".git")]
        yield from (Path(here, name) for name in files if not name.endswith(".pyc"))


def _source(files: Iterable[Path], tracked: Collection[Path]) -> Iterator[Path]:
    return (path for path in files if path in tracked or path.suffix in CODE)


def _digest(root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file()):
        digest.update(os.fsencode(path.relative_to(root)) + b"\0")
        with suppress(PermissionError), path.open("rb") as file:  # what cannot be read is nobody's code
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
