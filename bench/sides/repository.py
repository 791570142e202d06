"""Asks git about the repository that a directory lies in, whatever repository the environment names."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from ..plain.errors import CannotDo

# Variables, set in hooks and linked worktrees, that make git work on another repository than the one it is asked about.
# From git's own list, `git rev-parse --local-env-vars`, without those that configure git: they may hold safe.directory.
NAMING_A_REPOSITORY = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_QUARANTINE_PATH",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    }
)
SUBMODULE = "160000"  # the mode of a submodule's entry in a tree


class GitFailed(Exception):
    """Git failed; the message is what it said, in one line."""


def git(directory: Path, *arguments: str, index: Path | None = None, stdin: bytes = b"") -> bytes:
    """Run git in a directory, on the index file if one is given, and return what it printed.

    Raises:
        GitFailed: it ended with an error.
        CannotDo: there is no git.

    """
    environment = {name: value for name, value in os.environ.items() if name not in NAMING_A_REPOSITORY}
    environment |= {"LC_ALL": "C"} | ({} if index is None else {"GIT_INDEX_FILE": str(index)})
    command = ["git", "-C", str(directory), "-c", "core.warnAmbiguousRefs=true", *arguments]
    try:
        done = subprocess.run(command, env=environment, input=stdin, capture_output=True, check=False)
    except (OSError, ValueError) as error:
        raise CannotDo(f"git could not be run ({error}): install it, or name a directory") from error
    said = " ".join(done.stderr.decode(errors="replace").split())
    if done.returncode != 0:
        raise GitFailed(said or f"it ended with status {done.returncode}")
    if "is ambiguous" in said:
        raise AmbiguousRevision(said)
    return done.stdout


class AmbiguousRevision(GitFailed):
    """Git knows several things of one name, and would take one of them."""


def top_level(directory: Path) -> Path | None:
    """Return the root of the working tree that a directory lies in; None if git knows of none."""
    try:
        return Path(git(directory, "rev-parse", "--show-toplevel").decode().rstrip("\n"))
    except (GitFailed, CannotDo):
        return None


def commit_of(directory: Path, revision: str) -> str:
    """Return the commit that a revision names.

    Raises:
        GitFailed: git knows none of that name, or does not open the repository.
        CannotDo: there is no git, or the name means several commits.

    """
    try:
        return git(directory, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    except AmbiguousRevision as error:
        stem = re.split(r"[~^@:]", revision)[0]
        listed = git(directory, "for-each-ref", "--format=%(refname)", f"refs/*/{stem}", f"refs/remotes/*/{stem}")
        names = " or ".join(listed.decode().split()) or "the full name"
        raise CannotDo(f"revision {revision!r} means several things ({error}): write {names}") from error


def files_of_commit(directory: Path, commit: str, paths: Sequence[str], into: Path) -> Path | None:
    """Write the files below the paths, as a checkout of the commit would, and those that their links lead to.

    Returns where ``directory`` lies in the copy; None if the commit holds nothing below the paths.

    Raises:
        GitFailed: git could not write them.
        CannotDo: what they need lies in a submodule, or a link leads out of the repository.

    """
    root = Path(git(directory, "rev-parse", "--show-toplevel").decode().rstrip("\n"))
    here = git(directory, "rev-parse", "--show-prefix").decode().rstrip("\n")
    with tempfile.TemporaryDirectory(prefix="attention-index-") as scratch:
        index = Path(scratch) / "index"
        git(root, "read-tree", commit, index=index)
        wanted = [str(PurePosixPath(here, path)) for path in paths]
        if not _check_out(root, index, wanted, into):
            return None
        while (found := _leading_nowhere(into)) is not None:
            link, target = found
            if target is None or not _check_out(root, index, [target], into):
                raise CannotDo(
                    f"revision {commit[:12]} has the link {link}, which leads to nothing in that revision: "
                    "name a directory that holds the files"
                )
    return into / here


def _check_out(root: Path, index: Path, paths: Iterable[str], into: Path) -> bool:
    """Write what the index holds below the paths; returns whether it holds anything there."""
    listed = git(root, "ls-files", "-z", "--stage", "--", *(f":(literal){path}" for path in paths), index=index)
    entries = [entry.partition(b"\t") for entry in listed.split(b"\0") if entry]
    for what, _, path in entries:
        if what.startswith(SUBMODULE.encode()):
            raise CannotDo(
                f"{os.fsdecode(path)} is a submodule, whose files this repository does not hold: "
                "name a directory that holds the package whole"
            )
    names = b"".join(path + b"\0" for _, _, path in entries)
    git(root, "checkout-index", "-z", "--stdin", "--force", f"--prefix={into}{os.sep}", index=index, stdin=names)
    return bool(entries)


def _leading_nowhere(root: Path) -> tuple[str, str | None] | None:
    """Find a broken link below the root, and the path from the root that it names, None if that is outside."""
    for path in sorted(root.rglob("*")):
        target = Path(os.path.normpath(path.parent / path.readlink())) if path.is_symlink() else None
        if target is not None and not os.path.lexists(target):
            inside = target.is_relative_to(root)
            return path.relative_to(root).as_posix(), target.relative_to(root).as_posix() if inside else None
    return None


def known_files(directory: Path, name: str) -> dict[str, bool] | None:
    """Map each file below ``directory/name`` that git does not ignore to whether git tracks it; None outside of git."""
    if top_level(directory) is None:
        return None
    found: dict[str, bool] = {}
    for kind, tracked in (("--others", False), ("--cached", True)):
        listed = git(directory, "ls-files", "-z", kind, "--exclude-standard", "--", f":(literal){name}")
        found |= {os.fsdecode(path): tracked for path in listed.split(b"\0") if path}
    return found
