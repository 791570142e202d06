"""Where a side's process has imported modules from."""

import sys
from collections.abc import Collection
from pathlib import Path

from ..plain.errors import CannotDo
from ..sources.source import folders_of
from ..sources.world import World, in_repository


def any_own(world: World, tests: Collection[Path]) -> bool:
    """Whether any module but the tests themselves was imported from the side's own code."""
    roots = world.paths or _roots(world)
    files = {Path(file).resolve() for module in list(sys.modules.values()) if (file := _file_of(module)) is not None}
    own = (file for file in files if any(in_repository(file, root) for root in roots))
    return any(file not in tests and file.name != "conftest.py" for file in own)


def refuse_another_place(label: str, world: World, common: Collection[str]) -> None:
    """Refuse packages of the repository, or of the base's directory, that were imported from elsewhere.

    ``common`` are the packages that were imported before the process became a side.

    Raises:
        CannotDo: there is one.

    """
    roots = [*world.paths, *_roots(world)]
    for name, module in list(sys.modules.items()):
        file = _file_of(module)
        if file is None or "." in name or name in common or name in sys.stdlib_module_names:
            continue
        held = next((place for root in roots for place in folders_of(root, [name]) if _has(place, name)), None)
        if held is not None and not any(in_repository(Path(file), root) for root in roots):
            raise CannotDo(
                f"the {label} imports {name} from {Path(file).parent}, and {held} has its own: "
                f"install that one (pip install --editable), or put it on PYTHONPATH"
            )


def _roots(world: World) -> list[Path]:
    return [*filter(None, [world.checkout or world.repository])]


def _file_of(module: object) -> str | None:
    try:
        file = getattr(module, "__file__", None)
    except Exception:  # noqa: BLE001  # a module may be any object
        return None
    return file if isinstance(file, str) else None


def _has(folder: Path, name: str) -> bool:
    """Whether a module, or a package that is no mere folder, lies there."""
    return (folder / name / "__init__.py").is_file() or (folder / f"{name}.py").is_file()
