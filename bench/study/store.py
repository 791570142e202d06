"""The parts that are finished, in one file, so that a run that was stopped goes on where it was."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..plain.files import write_atomically
from .results import Results, Series, from_json, to_json

SCHEMA = 1


class Store:
    """Finished parts by key, written after each; those of another machine, source or budget do not count."""

    def __init__(self, path: Path, identity: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.path = path
        self.identity = {"schema": SCHEMA, **identity}
        self.parts: dict[str, dict[str, Any]] = {}
        self.discarded: str | None = None  # why finished parts that were there do not count
        if path.exists() and not fresh:
            self._read()

    def _read(self) -> None:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            identity, parts = document["identity"], document["parts"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            self.discarded = f"{self.path} cannot be read ({type(error).__name__})"
            return
        different = [name for name in {**identity, **self.identity} if identity.get(name) != self.identity.get(name)]
        if different:
            self.discarded = f"{self.path} was measured with another {', '.join(different)}"
        else:
            self.parts = parts

    def __contains__(self, key: str) -> bool:
        return key in self.parts

    def add(self, key: str, series: Iterable[Series], seconds: float) -> None:
        """Keep a finished part, on disk too."""
        self.parts[key] = {"seconds": seconds, "series": to_json(series)}
        document = {"identity": self.identity, "parts": self.parts}
        write_atomically(self.path, json.dumps(document, allow_nan=False) + "\n")

    @property
    def results(self) -> Results:
        return Results(tuple(s for part in self.parts.values() for s in from_json(part["series"])))

    @property
    def seconds(self) -> float:
        """What the finished parts took."""
        return float(sum(part["seconds"] for part in self.parts.values()))


def digest(files: Iterable[Path]) -> str:
    """Digest names and contents: the measuring code, of which results are only comparable if it is the same."""
    found = hashlib.sha256()
    for path in sorted(files):
        found.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]
