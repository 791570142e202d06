"""A stand-in for pytest's config: options that were given, and the defaults of those that the gate declares."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class Config:
    """``declare`` is given it as the parser; ``plugins`` are those that are loaded."""

    def __init__(
        self,
        declare: Callable[[Any], None],
        rootpath: Path = Path(),
        plugins: tuple[str, ...] = ("benchmark",),
        **given: Any,
    ) -> None:
        self.rootpath, self.given = rootpath, given
        self.pluginmanager = SimpleNamespace(has_plugin=lambda name: name in plugins)
        declare(self)

    def getgroup(self, *_: str) -> "Config":
        return self

    def addoption(self, name: str, *, default: Any = None, action: str = "store", **_: Any) -> None:
        absent = False if action == "store_true" else default
        self.given.setdefault(name.removeprefix("--").replace("-", "_"), absent)

    def getoption(self, name: str, default: Any = None) -> Any:
        return self.given.get(name, default)
