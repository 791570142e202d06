"""The two sides of a comparison: head is the package as imported, base is another source loaded beside it."""

import ast
import importlib.util
import io
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..plain.errors import CannotDo
from .source import PACKAGE, Source

BASE_PACKAGE = "attention_base"  # the name under which the base side is imported


@dataclass(frozen=True)
class Side:
    """One version of the attention package: its kernels and modules by name.

    ``undeclared`` names kernels from outside the package, whose capabilities show only when they are called.
    """

    label: str
    kernels: Mapping[str, Any]
    modules: Mapping[str, Any]
    undeclared: frozenset[str] = frozenset()

    @classmethod
    def of(cls, label: str, package: ModuleType, outside: Mapping[str, Any] | None = None) -> "Side":
        """Read the registries of an imported package; kernels from outside it join by name."""
        outside = outside or {}
        modules = dict(getattr(package, "MODULES", {}))
        return cls(label, {**package.KERNELS, **outside}, modules, frozenset(outside))


@contextmanager
def base_side(source: Source) -> Iterator[Side]:
    """Import the source as ``attention_base`` in this process, for as long as the context lasts.

    Raises:
        CannotDo: it is not a zip, does not import, has no kernels, or its code reaches the head's modules.

    """
    directory = Path(tempfile.mkdtemp(prefix="attention-base-"))
    try:
        yield _load(source, directory)
    finally:
        _forget()
        shutil.rmtree(directory, ignore_errors=True)


def _load(source: Source, directory: Path) -> Side:
    try:
        with zipfile.ZipFile(io.BytesIO(source.archive)) as archive:
            archive.extractall(directory)
    except zipfile.BadZipFile as error:
        raise CannotDo(f"the source in {source.origin} is not a zip archive: store the baseline anew") from error
    root = directory / PACKAGE
    if not (root / "__init__.py").is_file():
        raise CannotDo(f"the source in {source.origin} holds no {PACKAGE}/__init__.py: store the baseline anew")
    for path in sorted(root.rglob("*.py")):
        _refuse_absolute_imports(path, root, source)
    _forget()
    spec = importlib.util.spec_from_file_location(
        BASE_PACKAGE, root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec is not None  # the file exists
    assert spec.loader is not None  # and ends in .py
    package = importlib.util.module_from_spec(spec)
    sys.modules[BASE_PACKAGE] = package
    try:
        spec.loader.exec_module(package)
    except (Exception, SystemExit) as error:
        raise CannotDo(
            f"the base, {source.origin}, does not import ({type(error).__name__}: {error}): "
            "choose a base that runs with the packages installed here"
        ) from error
    _refuse_shared_objects(source)
    if not getattr(package, "KERNELS", None):
        raise CannotDo(f"the base, {source.origin}, has no {PACKAGE}.KERNELS: choose a base that registers some")
    return Side.of("base", package)


def _forget() -> None:
    for name in [n for n in sys.modules if _inside(n, BASE_PACKAGE)]:
        del sys.modules[name]


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _refuse_absolute_imports(path: Path, root: Path, source: Source) -> None:
    """Refuse a file that names the package absolutely, wherever in the file, since it may run at a later call."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise CannotDo(f"the base, {source.origin}, does not import ({path.name}: {error})") from error
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            names = [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if any(_inside(name, PACKAGE) for name in names):
            raise CannotDo(
                f"the base, {source.origin}, imports {PACKAGE} absolutely ({path.relative_to(root.parent)}, line "
                f"{node.lineno}) and would run the head's code: use relative imports inside {PACKAGE}/"  # type: ignore[attr-defined]  # the three kinds of node have a line
            )


def _refuse_shared_objects(source: Source) -> None:
    """Refuse a base in which any name of any module is bound to the head's package or to something defined in it."""
    for name, module in list(sys.modules.items()):
        if not _inside(name, BASE_PACKAGE):
            continue
        for attribute, value in vars(module).items():
            home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(home, str) and _inside(home, PACKAGE):
                raise CannotDo(
                    f"the base, {source.origin}, reaches the head's code ({name}.{attribute} comes from {home}): "
                    f"use relative imports inside {PACKAGE}/"
                )
