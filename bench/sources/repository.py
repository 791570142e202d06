"""Asks git about the repository that a directory lies in, whatever repository the environment names."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

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
MERGE_BASE = "..."  # after a revision, as git diff has it
SUBMODULE = "160000"  # the mode of a submodule's entry in a tree
POINTER = b"version https://git-lfs.github.com/spec/"  # Git LFS's specification: the first line of a pointer
MOST_POINTER_BYTES = 1024  # likewise


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


def is_revision(directory: Path, name: str) -> bool:
    """Whether git knows a revision of that name."""
    try:
        commit_of(directory, name)
    except (GitFailed, CannotDo):
        return False
    return True


def known_commit(directory: Path, revision: str, side: str = "base") -> str:
    """Return the commit that a revision given by the user names; one that ends in three dots is a merge base with HEAD.

    Raises:
        CannotDo: git knows none of that name, it means several commits, or there is no merge base.

    """
    name = revision.removesuffix(MERGE_BASE)
    try:
        commit = commit_of(directory, name)
    except GitFailed as error:
        if os.path.isdir(revision):  # noqa: PTH112  # Path would raise for a name that is too long
            raise CannotDo(
                f"{side} {revision!r} is a directory, and must be a revision: give a commit, a branch or a tag"
            ) from error
        cure = "check the name, or fetch it (a shallow clone lacks older revisions)"
        if top_level(directory) is None:  # it may be above the repository, where pytest's settings are
            cure = "run pytest with --rootdir=DIR of a repository that git opens"
        raise CannotDo(
            f"{side} {revision!r} is neither a directory nor a revision that git knows in {directory} ({error}): {cure}"
        ) from error
    if name == revision:
        return commit
    try:
        return git(directory, "merge-base", commit, "HEAD").decode().strip()
    except GitFailed as error:
        raise CannotDo(
            f"{side} {revision!r} is the merge base of {name} and HEAD, and git finds none in {directory}: fetch more "
            f"history (git fetch --unshallow), or give {name} without the dots"
        ) from error


def files_of(directory: Path, commit: str, origin: str, into: Path) -> Path:
    """Write every file of a commit as ``check_out`` does; ``origin`` names it in messages.

    Raises:
        CannotDo: git cannot write them.

    """
    try:
        return check_out(directory, commit, into)
    except GitFailed as error:
        cure = "set TMPDIR to a place with more room" if "unable to write" in str(error) else "repair that, or fetch it"
        raise CannotDo(f"git cannot give the files of {origin} ({error}): {cure}") from error


def check_out(directory: Path, commit: str, into: Path) -> Path:
    """Write every file of a commit, as a checkout would; returns where ``directory`` lies in the copy.

    A submodule that the repository has checked out is written as of the commit, too; one that it has not stays empty.

    Raises:
        GitFailed: git could not write them.
        CannotDo: a submodule lacks the commit that is asked for, or a file is a pointer whose content was not fetched.

    """
    root = Path(git(directory, "rev-parse", "--show-toplevel").decode().rstrip("\n"))
    here = git(directory, "rev-parse", "--show-prefix").decode().rstrip("\n")
    with tempfile.TemporaryDirectory(prefix="attention-index-") as scratch:
        index = Path(scratch) / "index"
        git(root, "read-tree", commit, index=index)
        git(root, "checkout-index", "--all", "--force", f"--prefix={into}{os.sep}", index=index)
        listed = git(root, "ls-files", "-z", "--stage", index=index)
    for entry in filter(None, listed.split(b"\0")):
        what, _, name = entry.partition(b"\t")
        mode, sha, _ = what.decode().split()
        path = os.fsdecode(name)
        if mode == SUBMODULE and any((root / path).glob("*")):
            _check_out_submodule(root / path, path, sha, into / path)
        elif mode != SUBMODULE and _is_pointer(into / path) and not _is_pointer(root / path):
            raise CannotDo(
                f"{path} is a Git LFS pointer in {commit[:12]}, and its content was not fetched: "
                "git lfs fetch --all, without GIT_LFS_SKIP_SMUDGE"
            )
    return into / here


def _check_out_submodule(directory: Path, name: str, commit: str, into: Path) -> None:
    try:
        check_out(directory, commit_of(directory, commit), into)
    except GitFailed as error:
        raise CannotDo(
            f"{name} is a submodule whose commit {commit[:12]} is not here ({error}): fetch it in the submodule"
        ) from error


def _is_pointer(path: Path) -> bool:
    """Whether a file holds what Git LFS stores in place of its content."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_POINTER_BYTES:
            return False
        return path.read_bytes().startswith(POINTER)
    except OSError:
        return False


def leading_nowhere(folder: Path) -> Path | None:
    """Find a broken link in a folder, or the folder itself if it is one."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return next((path for path in paths if path.is_symlink() and not path.exists()), None)


def is_ignored(directory: Path, path: str) -> bool:
    """Whether git ignores a file, or the folder that it lies in."""
    try:
        git(directory, "check-ignore", "--quiet", "--", path)
    except (GitFailed, CannotDo):
        return False
    return True


def known_files(directory: Path, name: str) -> dict[str, bool] | None:
    """Map each file below ``directory/name`` that git does not ignore to whether git tracks it; None outside of git."""
    if top_level(directory) is None:
        return None
    found: dict[str, bool] = {}
    for kind, tracked in (("--others", False), ("--cached", True)):
        listed = git(directory, "ls-files", "-z", kind, "--exclude-standard", "--", f":(literal){name}")
        found |= {os.fsdecode(path): tracked for path in listed.split(b"\0") if path}
    return found
