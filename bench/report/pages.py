"""One page from a template: style and script inlined and allowed by their hashes; it may load nothing else."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from math import isfinite
from typing import TYPE_CHECKING

from ..plain.optional import require
from .text import duration

if TYPE_CHECKING:
    from jinja2 import Environment

_PARTS = files(__package__) / "page"


def check_possible() -> None:
    """Make sure that a page can be made.

    Raises:
        CannotDo: jinja2 is not installed.

    """
    require("jinja2", "an HTML page", "reports")


@cache
def _environment() -> "Environment":
    check_possible()
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  # only a page needs it

    environment = Environment(
        loader=PackageLoader(__package__, "page"),
        autoescape=True,  # ids, reasons and origins may come from a stranger's kernel
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "figure": figure}
    return environment


def figure(value: float | None) -> str:
    """Write a value for the script to sort by; empty if it is not known."""
    if value is None:
        return ""
    return f"{value:.6g}" if isfinite(value) else "Infinity"


def render(template: str, styles: Sequence[str], scripts: Sequence[str], **values: object) -> str:
    """Fill a template of ``page/`` and put the style sheets and scripts, named without their endings, into it.

    Raises:
        CannotDo: as ``check_possible``.

    """
    style, script = _joined(styles, ".css"), _joined(scripts, ".js")
    allowed = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    policy = f"{allowed}; base-uri 'none'; form-action 'none'"
    return _environment().get_template(template).render(content_policy=policy, style=style, script=script, **values)


def _joined(names: Sequence[str], ending: str) -> str:
    return "\n".join((_PARTS / f"{name}{ending}").read_text(encoding="utf-8") for name in names)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
