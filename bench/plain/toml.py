"""Reads TOML files, and finds the line of a value for messages."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CannotDo


@dataclass(frozen=True)
class Toml:
    """The values of a file, or of the section ``within`` it, and the file's text.

    ``called`` is its name in messages, where that is not its name in its folder.
    """

    path: Path
    text: str
    document: Mapping[str, Any]
    within: str = ""
    called: str = ""

    @property
    def name(self) -> str:
        """The file's name in messages."""
        return self.called or self.path.name

    @classmethod
    def read(cls, path: Path, called: str = "") -> "Toml":
        """Read a file.

        Raises:
            CannotDo: it cannot be read, or is no TOML.
            FileNotFoundError: there is none.

        """
        try:
            text = path.read_text(encoding="utf-8")
            return cls(path, text, tomllib.loads(text), called=called)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise CannotDo(f"{called or path.name} cannot be read ({error}): mend it") from error

    def section(self, name: str) -> "Toml":
        """Return the section of that dotted name; an empty one if it is not there.

        Raises:
            CannotDo: it is no table.

        """
        found: Any = self.document
        for part in name.split("."):
            found = found.get(part, {}) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise CannotDo(f"{self.at()}: write {name} as a table headed [{name}]")
        return Toml(self.path, self.text, found, name, self.called)

    def at(self, table: str = "", number: int = 0, key: str = "") -> str:
        """Say where a key is, in the given entry of a table or above all tables: "gate.toml, line 7".

        A key that is not there has the line of the entry's heading; above all tables, no line.
        """
        table = ".".join(filter(None, (self.within, table)))
        heading = re.compile(rf"\s*\[\[?\s*{re.escape(table)}\s*\]")
        assignment = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
        entry, inside, found = -1, not table, None
        for line, written in enumerate(self.text.splitlines(), 1):
            if re.match(r"\s*\[", written):
                own = bool(table and heading.match(written))
                entry += own
                inside = own and entry == number
                found = line if inside else found
            elif inside and key and assignment.match(written):
                found = line
                break
        return self.name if found is None else f"{self.name}, line {found}"
