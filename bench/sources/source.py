"""The source of a side as a zip of its top-level packages and modules, from a directory or a git revision."""

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..plain.errors import CannotDo
from .repository import MERGE_BASE, GitFailed, commit_of, files_of, known_commit, known_files, leading_nowhere
from .target import PACKAGE, place_of

MOST_BYTES = 256 << 20  # more is not source code
MOST_UNTRACKED_BYTES = 1 << 20  # of a file that git does not track: larger ones are dumps and data


@dataclass(frozen=True)
class Source:
    """A zip archive of packages and modules by their top-level names, and where it came from."""

    origin: str  # in words, for reports: "revision main (1a2b3c4d5e6f)"
    archive: bytes

    @property
    def sha256(self) -> str:
        """Digest of names and contents: the same for the same source, however it was packed."""
        digest = hashlib.sha256()
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            for name in sorted(n for n in archive.namelist() if not n.endswith("/")):
                digest.update(name.encode() + b"\0" + hashlib.sha256(archive.read(name)).digest())
        return digest.hexdigest()

    @property
    def described(self) -> dict[str, str]:
        """What a report says of it."""
        return {"origin": self.origin, "source_sha256": self.sha256}

    @property
    def names(self) -> frozenset[str]:
        """The top-level packages and modules that it holds.

        Raises:
            CannotDo: it is no zip archive.

        """
        try:
            with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
                return frozenset(name.split("/")[0].removesuffix(".py") for name in archive.namelist())
        except zipfile.BadZipFile as error:
            raise CannotDo(f"the source in {self.origin} is not a zip archive: store the baseline anew") from error

    def unpack(self, directory: Path) -> None:
        """Write its files below a directory."""
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            archive.extractall(directory)


def choice(repository: Path, wanted: str) -> tuple[str, str]:
    """Take the first of several names, separated by blanks, that is a directory or a revision, else the last.

    After a forced push, or on a new branch, the commit before may be gone. Returns the name, and a clause for reports
    about those that were passed over.
    """
    if os.path.isdir(wanted):  # noqa: PTH112  # Path would raise for a name that is too long
        return wanted, ""
    *earlier, last = wanted.split() or [wanted]
    for number, name in enumerate(earlier):
        try:
            if not os.path.isdir(name):  # noqa: PTH112
                commit_of(repository, name.removesuffix(MERGE_BASE))
        except GitFailed:
            continue
        return name, _passed_over(earlier[:number])
    return last, _passed_over(earlier)


def _passed_over(names: Sequence[str]) -> str:
    return f", since git knows no {' and no '.join(names)} here" if names else ""


def names_directory(repository: Path, name: str) -> bool:
    """Whether a name that the user gave is that of a directory, and not of a revision of the repository.

    Raises:
        CannotDo: it is both.

    """
    # Path takes an empty name for the working directory, and raises for a name that is too long.
    if not os.path.isdir(name):  # noqa: PTH112
        return False
    try:
        commit = commit_of(repository, name)
    except (GitFailed, CannotDo):
        return True
    raise CannotDo(
        f"base {name!r} is a directory and a revision ({commit[:12]}): write ./{name} for the directory, "
        f"or refs/heads/{name}, refs/tags/{name} or {commit[:12]} for the revision"
    )


def from_directory(directory: Path, names: Sequence[str] = (PACKAGE,)) -> Source:
    """Pack packages and modules that lie in ``directory`` or ``directory/src``, or a package that is the directory.

    Files that git ignores, hidden ones, large ones that git does not know, and compiled Python are left out.

    Raises:
        CannotDo: one of them is not there, or they are too large to be source.

    """
    files = {name: path for one in names for name, path in _named_files(directory, one).items()}
    return Source(f"directory {directory}", _packed(files, str(directory)))


def folders_of(directory: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Return the folders in a directory from which packages and modules that it holds are imported."""
    found = (_locate(directory.resolve(), name) for name in names)
    return tuple(dict.fromkeys(path.parent for path in found if path is not None))


def _named_files(directory: Path, name: str) -> dict[str, Path]:
    """The files of a package or module in a directory, by their names in the archive."""
    found = _locate(directory, name)
    if found is None:
        raise CannotDo(f"{directory} holds no {name}/__init__.py: name a directory that holds the package")
    return {path.relative_to(found.parent).as_posix(): path for path in _files(found)}


def imported(names: Sequence[str]) -> Source:
    """Pack packages and modules from where they are imported here.

    Raises:
        CannotDo: one cannot be found, or they are too large to be source.

    """
    files = {name: path for one in names for name, path in _named_files(place_of(one), one).items()}
    return Source("working tree", _packed(files, "the working tree"))


def installed(origin: str) -> Source:
    """Return a source without files, which stands for the packages that an interpreter has installed."""
    return Source(origin, _packed({}, origin))


def checked_out(repository: Path, revision: str, names: Sequence[str], into: Path) -> tuple[Source, tuple[Path, ...]]:
    """Check a git revision of the repository out into an empty directory, and pack the packages and modules there.

    Returns the source, and the folders in the checkout from which they are imported.

    Raises:
        CannotDo: no such revision, or one of the packages is not in it.

    """
    commit = known_commit(repository, revision)
    origin = f"revision {revision} ({commit[:12]})"
    here = files_of(repository, commit, origin, into)
    files: dict[str, Path] = {}
    folders: list[Path] = []
    for name in names:
        # The package may have been elsewhere: beside src/, or inside of it.
        outwards = [folder for folder in (here, *here.parents) if folder.is_relative_to(into)]
        found = next(filter(None, (_locate(folder, name) for folder in outwards)), None)
        if found is None:
            raise CannotDo(f"{origin} has no {name}/: choose one that has the package")
        if (broken := leading_nowhere(found)) is not None:
            link = broken.relative_to(into).as_posix()
            raise CannotDo(
                f"{origin} has the link {link}, which leads to nothing in that revision: "
                "name a directory that holds the files"
            )
        files |= {path.relative_to(found.parent).as_posix(): path for path in _below(found)}
        folders.append(found.parent)
    return Source(origin, _packed(files, origin)), tuple(dict.fromkeys(folders))


def _locate(directory: Path, name: str) -> Path | None:
    """Find the package or module of that name."""
    if directory.name == name and (directory / "__init__.py").is_file():
        return directory
    for folder in (directory, directory / "src"):
        if (folder / name / "__init__.py").is_file():
            return folder / name
        if (folder / f"{name}.py").is_file():
            return folder / f"{name}.py"
        if (folder / name).is_dir() and next((folder / name).rglob("*.py"), None):  # a namespace package
            return folder / name
    return None


def _files(package: Path) -> Iterator[Path]:
    """List the files of a package in a directory that belong to its source."""
    try:
        known = known_files(package.parent, package.name)
    except GitFailed as error:
        raise CannotDo(f"git cannot list the files of {package} ({error}): repair that") from error
    if known is None or not any(known.values()):  # git ignores the whole package, for example an installed one
        yield from (path for path in _below(package) if not _hidden(path.relative_to(package)))
        return
    for name, tracked in known.items():
        path = package.parent / name
        litter = _hidden(path.relative_to(package.parent)) or (
            path.is_file() and path.stat().st_size > MOST_UNTRACKED_BYTES
        )
        if tracked or not litter:
            yield from _below(path)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _below(path: Path) -> Iterator[Path]:
    """List the file itself, or the files in the directory, through links, without compiled Python."""
    if path.is_file():
        if path.suffix != ".pyc":
            yield path
        return
    for folder, folders, files in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not _leads_up(Path(folder, name)))
        yield from (Path(folder, name) for name in sorted(files) if Path(folder, name).is_file())


def _leads_up(folder: Path) -> bool:
    """Whether a folder is a link to a folder that holds it; following it would never end."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _packed(files: dict[str, Path], where: str) -> bytes:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise CannotDo(
            f"the source in {where} has {sum(sizes.values()) >> 20} MiB, {sizes[largest] >> 20} of them in {largest}, "
            f"and {MOST_BYTES >> 20} are the most: take what is no source out of it"
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            # With a fixed date, the same source gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name), files[name].read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
