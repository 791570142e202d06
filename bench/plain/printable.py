"""Text for people: from elsewhere, such as a kernel's error message, made printable; numbers with their nouns. Pure."""

import re
from collections.abc import Iterable, Sequence

LINE_LENGTH = 300  # characters, where there is room for one line
TEXT_LENGTH = 4000  # characters, where all lines are shown; the JSON has all of it
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # sequences that colour text and move the cursor


def readable(text: str, length: int = TEXT_LENGTH) -> str:
    """Return the lines of a text, cut to a length, without unprintable characters."""
    lines = _ANSI.sub("", text[:length]).splitlines()
    plain = "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)
    return plain if len(text) <= length else f"{plain}…"


def first_line(text: str) -> str:
    """Return the first line of a text; an ellipsis shows where there is more."""
    first, more, _ = readable(text, LINE_LENGTH).partition("\n")
    return f"{first}…" if more else first


def counted(count: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: ``1 case``, ``2 cases``; ``many`` is the plural where that is not ``one`` and s."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]] = ()) -> list[str]:
    """Write a table as lines of Markdown; its cells are escaped already."""
    return [table_row(cells) for cells in (columns, ("---",) * len(columns), *rows)]


def table_row(cells: Sequence[str]) -> str:
    """Write one row of such a table."""
    return f"| {' | '.join(cells)} |"
