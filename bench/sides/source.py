"""The source of an attention package as a zip, from a directory or a git revision: what a baseline stores."""

import hashlib
import io
import os
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ..plain.errors import CannotDo

PACKAGE = "attention"


@dataclass(frozen=True)
class Source:
    """A zip archive of ``attention/`` and where it came from."""

    origin: str  # in words, for reports: "revision main (1a2b3c4d5e6f)"
    archive: bytes

    @property
    def sha256(self) -> str:
        """Digest of names and contents: equal for equal source, whichever way it was packed."""
        digest = hashlib.sha256()
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            for name in sorted(n for n in archive.namelist() if not n.endswith("/")):
                digest.update(name.encode() + b"\0" + hashlib.sha256(archive.read(name)).digest())
        return digest.hexdigest()


def find(repository: Path, name: str) -> Source:
    """Pack the package of a directory, or else of a revision of the repository, by the name that the user gave.

    Raises:
        CannotDo: it is neither, or holds no package.

    """
    # To Path, an empty name is the working directory, and one too long to be a directory an error.
    is_directory = os.path.isdir(name)  # noqa: PTH112
    return from_directory(Path(name)) if is_directory else from_revision(repository, name)


def from_directory(directory: Path) -> Source:
    """Pack the package in ``directory/attention``, or ``directory`` where it is such a package itself.

    Raises:
        CannotDo: there is no package there.

    """
    package = directory if directory.name == PACKAGE else directory / PACKAGE
    if not (package / "__init__.py").is_file():
        raise CannotDo(f"{directory} holds no {PACKAGE}/__init__.py: name a directory that holds the package")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                # A fixed date makes the same source the same bytes.
                name = zipfile.ZipInfo(f"{PACKAGE}/{path.relative_to(package).as_posix()}")
                archive.writestr(name, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return Source(f"directory {directory}", buffer.getvalue())


def from_revision(repository: Path, revision: str) -> Source:
    """Pack ``attention/`` as it is in a git revision of the repository.

    Raises:
        CannotDo: no such revision, or none of the package in it.

    """
    commit = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise CannotDo(
            f"base {revision!r} is neither a directory nor a revision that git knows here: "
            "check the name, or fetch it (a shallow clone lacks older revisions)"
        )
    name = commit.decode().strip()
    archive = _git(repository, "archive", "--format=zip", name, PACKAGE)
    if archive is None:
        raise CannotDo(f"revision {revision} ({name[:12]}) has no {PACKAGE}/: choose one that has the package")
    return Source(f"revision {revision} ({name[:12]})", archive)


def _git(repository: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", repository, *arguments], capture_output=True, check=False)
    except OSError as error:
        raise CannotDo(f"git could not be run ({error}): install it, or name a directory") from error
    return done.stdout if done.returncode == 0 else None
