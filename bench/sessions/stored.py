"""A baseline that pytest-benchmark stored, as code: the commit that it was measured at, and the edits made since then.

pytest-benchmark stores the commit by itself, so whatever it stored in a clean checkout is a baseline.
"""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..plain.errors import CannotDo
from ..plain.files import make_way
from ..sources.repository import GitFailed, git, top_level

KEY = "twinbench"  # of our part in pytest-benchmark's JSON
MOST_BYTES = 16 << 20  # of edits


@dataclass(frozen=True)
class Stored:
    """A commit, and by path in the repository the content of each file that differs from it; None: it is gone."""

    commit: str
    edits: Mapping[str, bytes | None]

    def apply(self, folder: Path) -> None:
        """Make the edits in a checkout of the commit."""
        for name, content in sorted(self.edits.items(), key=lambda edit: edit[1] is not None):  # what is gone, first
            path = folder / name
            mode = path.stat().st_mode if path.is_file() else None
            make_way(path, folder)
            if content is not None:
                path.write_bytes(content)
                if mode is not None:
                    path.chmod(mode)


def our_part(root: Path) -> dict[str, Any] | None:
    """Return what pytest-benchmark's JSON must hold for a baseline stored now; None outside of git, or without edits.

    Where the edits cannot be stored, it says why, so that the file is no baseline, and still what pytest-benchmark
    stores.
    """
    top = top_level(root)
    if top is None:
        return None
    try:
        found = _edits(top)
    except CannotDo as error:
        return {"refused": str(error)}
    edits = {name: None if content is None else b64encode(content).decode() for name, content in found.items()}
    return {"edits": edits} if edits else None


def _edits(top: Path) -> dict[str, bytes | None]:
    try:
        listed = git(top, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames")
    except GitFailed as error:
        raise CannotDo(f"git cannot list what was edited ({error}): repair that, or store no baseline") from error
    # An untracked repository, whose name ends in a slash, is no edit of this one.
    entries = [entry for entry in listed.split(b"\0") if entry and not entry.endswith(b"/")]
    names = [os.fsdecode(entry[3:]) for entry in entries]
    if submodule := next((name for name in names if (top / name / ".git").exists()), None):
        raise CannotDo(
            f"{submodule} is a submodule that differed from the commit, and a baseline stores files alone: commit it"
        )
    there = [name for name in names if (top / name).is_file()]
    if (size := sum((top / name).stat().st_size for name in there)) > MOST_BYTES:
        raise CannotDo(
            f"{size >> 20} MiB of files differed from the commit, and a baseline stores {MOST_BYTES >> 20}: "
            "commit them, or let git ignore what is no source"
        )
    return dict.fromkeys(names) | {name: (top / name).read_bytes() for name in there}


def as_of_now(root: Path) -> dict[str, Any]:
    """Return the document of a baseline of what is on disk, without times.

    Raises:
        CannotDo: it is in no git repository, or in one without a commit.

    """
    try:
        commit = git(root, "rev-parse", "--verify", "HEAD").decode().strip()
    except GitFailed as error:
        raise CannotDo(
            f"{root} is in no git repository with a commit ({error}): commit it, or give --gate-base=DIR"
        ) from error
    return {"commit_info": {"id": commit}, KEY: our_part(root) or {"edits": {}}}


def read(path: Path) -> Stored:
    """Read a file of pytest-benchmark.

    Raises:
        CannotDo: it cannot be read, or does not say what code it measured.

    """
    anew = "store one anew with --benchmark-save=NAME"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        commit, own = document["commit_info"], document.get(KEY)
        refused = None if own is None else own.get("refused")
        edits = {
            name: None if text is None else b64decode(text, validate=True)
            for name, text in (own or {}).get("edits", {}).items()
        }
        sha, dirty = str(commit["id"]), bool(commit.get("dirty"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CannotDo(
            f"{path} is no baseline of pytest-benchmark ({type(error).__name__}: {error}): {anew}"
        ) from error
    if refused is not None:
        raise CannotDo(f"{path} holds no code: {refused}")
    if sha == "unknown":
        raise CannotDo(f"{path} was stored outside of git, so its code is not known: {anew} in a git repository")
    if dirty and own is None:
        raise CannotDo(f"{path} was stored with edits that it does not hold, as twinbench was not loaded: {anew}")
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in edits):
        raise CannotDo(f"{path} names files outside of the repository: {anew}")
    return Stored(sha, edits)
