"""One page from a template: style and script inlined and allowed by their hashes; it may load nothing else."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from math import isfinite

from jinja2 import Environment, PackageLoader, StrictUndefined

from .text import duration

_PARTS = files(__package__) / "page"
_ENVIRONMENT = Environment(
    loader=PackageLoader(__package__, "page"),
    autoescape=True,  # ids, reasons and origins may come from a stranger's kernel
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["duration"] = duration


def figure(value: float | None) -> str:
    """Write a value for the script to sort by; empty if it is not known."""
    if value is None:
        return ""
    return f"{value:.6g}" if isfinite(value) else "Infinity"


_ENVIRONMENT.filters["figure"] = figure


def render(template: str, styles: Sequence[str], scripts: Sequence[str], **values: object) -> str:
    """Fill a template of ``page/`` and put the style sheets and scripts, named without their endings, into it."""
    style, script = _joined(styles, ".css"), _joined(scripts, ".js")
    allowed = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    policy = f"{allowed}; base-uri 'none'; form-action 'none'"
    return _ENVIRONMENT.get_template(template).render(content_policy=policy, style=style, script=script, **values)


def _joined(names: Sequence[str], ending: str) -> str:
    return "\n".join((_PARTS / f"{name}{ending}").read_text(encoding="utf-8") for name in names)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
