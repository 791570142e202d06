"""Escapes text from cases and kernels, so that a report shows it as text and nothing else."""

import re
import unicodedata

ZERO_WIDTH = "\u200b"

# GitHub turns these into links and mentions after entities are decoded, so an invisible character parts them.
_LINKS = re.compile(r"(?<=[@#])|(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?<=\bGH)(?=-)", re.IGNORECASE)
_ACTIVE = re.compile(r"[\\`*_\[<|&~$#@]")


def clip(text: str, length: int) -> str:
    """Cut a text to a length; an ellipsis shows that it was cut."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def markdown(text: str) -> str:
    """Write text for GitHub's Markdown, inside of a line: no markup, no HTML, no end of a cell, no mention, no link.

    Line breaks, control characters and characters that turn the direction of writing become spaces.
    """
    plain = "".join(" " if unicodedata.category(c).startswith(("C", "Zl", "Zp")) else c for c in text)
    return _ACTIVE.sub(lambda match: f"&#{ord(match[0])};", _LINKS.sub(ZERO_WIDTH, plain))


def command_data(text: str) -> str:
    """Write the message of a workflow command: ``::error::MESSAGE``."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(text: str) -> str:
    """Write the value of a workflow command's property: ``::error file=VALUE::``."""
    return command_data(text).replace(":", "%3A").replace(",", "%2C")
