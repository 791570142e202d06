"""A table as it is shown, on the page and in Markdown."""

from dataclasses import dataclass

from ..plain.printable import table


@dataclass(frozen=True)
class Table:
    """Title, a note, and cells of text; ``marks`` gives each row's verdict where rows have one."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()
    marks: tuple[str, ...] = ()

    def as_markdown(self) -> list[str]:
        """Write heading, note and rows as paragraphs of Markdown."""
        text = "\n".join(table(self.columns, (tuple(map(escape, row)) for row in self.rows)))
        return [f"## {escape(self.title)}", escape(self.note), text if self.rows else "Nothing was measured."]


def escape(text: str) -> str:
    """Write text for Markdown, inside of a line."""
    for character in "\\*_<>|[]^~":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
