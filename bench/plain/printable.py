"""Makes text from elsewhere, such as a kernel's error message, printable. Pure."""

import re

LINE_LENGTH = 300  # characters of a text where it has one line
TEXT_LENGTH = 4000  # of one that is shown whole; the JSON has all of it
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # what colours a terminal, and moves its cursor


def readable(text: str, length: int = TEXT_LENGTH) -> str:
    """Return the lines of a text, up to a length, with nothing that is not printable."""
    lines = _ANSI.sub("", text[:length]).splitlines()
    plain = "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)
    return plain if len(text) <= length else f"{plain}…"


def first_line(text: str) -> str:
    """Return the first line of a text, for where there is room for one; it shows if there is more."""
    first, more, _ = readable(text, LINE_LENGTH).partition("\n")
    return f"{first}…" if more else first
