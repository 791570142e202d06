"""Finds code in a side's repository that is not part of its source, and that both sides would therefore share."""

import ast
import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..plain.errors import CannotDo

_IMPORTERS = ("import_module", "__import__", "files", "get_data", "find_spec")  # calls whose first argument is a module


def refuse_code_outside(files: Iterable[Path], names: Iterable[str], repository: Path | None, who: str) -> None:
    """Refuse a source whose files import modules of the repository that are not part of it, wherever in the file.

    ``names`` are the source's own top-level packages and modules; ``repository`` is None where there is none.

    Raises:
        CannotDo: one is imported; the message names it and says how to make it part.

    """
    if repository is None:
        return
    own, judged = set(names), set[str]()
    for path in files:
        for module, line in imported_modules(path):
            top = module.partition(".")[0]
            if top in own or top in judged:
                continue
            judged.add(top)
            home = _home(top)
            if home is not None and in_repository(home, repository):
                raise CannotDo(
                    f"{who} imports {top} ({path.name}, line {line}), which lies in the repository beside the source "
                    f"that is compared, so both sides would run the same {top}: give --source={top}, or move it into "
                    "the package"
                )


def watch_files(repository: Path, own: Path) -> list[str]:
    """Fill the list that is returned with the files of the repository that are read from now on, but those in ``own``.

    Python cannot stop watching, so this is for a process that holds one side and nothing else.
    """
    root, bench = repository.resolve(), Path(__file__).resolve().parents[1]
    inside = bench.parent != root and bench.parent.is_relative_to(root)  # the suite is a part of that repository
    suite = bench.parent if inside else bench
    read: list[str] = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], (str, os.PathLike)):
            return
        path = Path(arguments[0]).absolute()
        if path.suffix == ".pyc" or not path.is_relative_to(root):
            return
        if not any(path.is_relative_to(one) for one in (suite, own.resolve())) and in_repository(path, root):
            read.append(path.relative_to(root).as_posix())

    sys.addaudithook(note)
    return read


def imported_modules(path: Path) -> Iterator[tuple[str, int]]:
    """Yield what a file imports absolutely, by statement or by name, with the line; nothing if it does not parse."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # importing it will say so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module, node.lineno
        elif isinstance(node, ast.Call) and _name(node.func) in _IMPORTERS:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and not first.value.startswith("."):
                yield first.value, node.lineno


def _name(function: ast.expr) -> str | None:
    """The last name of what is called: of ``importlib.import_module``, ``import_module``."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)


def in_repository(path: Path, repository: Path) -> bool:
    """Whether a file is the repository's own: below its root, and not in a virtual environment there."""
    path = path.resolve()
    return path.is_relative_to(repository.resolve()) and not any(path.is_relative_to(one) for one in _environments())


def _environments() -> Iterator[Path]:
    for place in {*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sys.prefix}:
        yield Path(place).resolve()
    yield Path(sysconfig.get_path("stdlib")).resolve()


def _home(top: str) -> Path | None:
    """Find where a top-level module would be imported from; None if it is built in or missing."""
    loaded = sys.modules.get(top)
    if loaded is not None:
        place = getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", [])), None)
        return None if place is None else Path(place)
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = [spec.origin, *(spec.submodule_search_locations or [])]
    return next((Path(place) for place in places if place and place not in ("built-in", "frozen")), None)
