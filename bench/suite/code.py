"""The code of a side: its source, and the world in which a process sees that source in the right place."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from ..plain.errors import CannotDo
from ..sources import source
from ..sources.repository import top_level
from ..sources.source import Source
from ..sources.target import Target, place_of
from ..sources.world import World


@dataclass(frozen=True)
class PackageCode:
    """What a side consists of, and what its process sees."""

    source: Source
    world: World


def of_head(target: Target, gated: Path) -> PackageCode:
    """Return the code that is on disk, as it is imported here.

    ``gated`` is a folder of the checkout whose code is gated.

    Raises:
        CannotDo: it cannot be found, or is imported from elsewhere than that checkout, which has its own.

    """
    for name in target.names:
        _refuse_another_place(name, gated)
    return PackageCode(source.imported(target.names), _world(target))


def of_working_tree(target: Target) -> PackageCode:
    return of_head(target, place_of(target.names[0]))


def of_name(target: Target, name: str, scratch: Path) -> PackageCode:
    """Return the code of a directory, or of a revision, which is checked out below ``scratch``.

    Raises:
        CannotDo: it is neither or both, or does not hold what is compared.

    """
    place = place_of(target.names[0])
    if not source.names_directory(place, name):
        return of_revision(target, name, scratch)
    found = source.from_directory(Path(name), target.names)
    return PackageCode(found, replace(_world(target), paths=source.folders_of(Path(name), target.names), closed=True))


def of_revision(target: Target, revision: str, scratch: Path) -> PackageCode:
    """Return the code of a revision, which is checked out below ``scratch``.

    Raises:
        CannotDo: git knows none of that name, or it does not hold what is compared.

    """
    place = place_of(target.names[0])
    into = _empty(scratch, "checkout")
    found, folders = source.checked_out(place, revision, target.names, into)
    return PackageCode(found, replace(_world(target), paths=folders, checkout=into))


def of_archive(target: Target, archive: Source, scratch: Path) -> PackageCode:
    """Return the code of a source that was stored, unpacked below ``scratch``.

    Raises:
        CannotDo: it is no zip archive, or does not hold what is compared.

    """
    if missing := set(target.packages) - archive.names:
        raise CannotDo(
            f"the source in {archive.origin} holds no {min(missing)}: store the baseline anew, with the same --kernel"
        )
    return PackageCode(archive, replace(_world(target), paths=(_unpacked(archive, scratch),), closed=True))


def alone(archive: Source, scratch: Path) -> PackageCode:
    """Return the code of a source for an interpreter that sees nothing else of this one's; without files, its own."""
    into = _unpacked(archive, scratch)
    # Without files the folder is empty, and nothing is to be found there.
    return PackageCode(archive, World(scratch, (into,) if archive.names else ()))


def _world(target: Target) -> World:
    place = place_of(target.names[0])
    return World(Path.cwd(), repository=top_level(place) or place, environment=dict(os.environ))


def _unpacked(archive: Source, scratch: Path) -> Path:
    into = _empty(scratch, "source")
    archive.unpack(into)
    return into


def _empty(scratch: Path, prefix: str) -> Path:
    number = len(list(scratch.glob(f"{prefix}-*")))
    folder = scratch.resolve() / f"{prefix}-{number}"
    folder.mkdir()
    return folder


def _refuse_another_place(name: str, gated: Path) -> None:
    """Refuse a package that is imported from elsewhere, where the checkout that is gated has one of its name."""
    here = place_of(name)
    roots = [gated, *filter(None, [top_level(gated)])]
    own = [folder for root in roots for folder in source.folders_of(root, [name])]
    if own and here not in own:
        raise CannotDo(
            f"{name} is imported from {here}, and the checkout that is gated has its own in {own[0]}: "
            f"install that one, or put {own[0]} on PYTHONPATH"
        )
