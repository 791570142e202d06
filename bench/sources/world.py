"""The files that a side's process sees: its own code first, a checkout in the repository's place, no old bytecode."""

import marshal
import os
import shutil
import site
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from ..plain.errors import CannotDo
from ..plain.files import make_way
from .repository import is_ignored

LARGEST_COPY = 64 << 20  # bytes of a file
NO_EXECUTION: int = getattr(os, "ST_NOEXEC", 0)  # of a file system mounted noexec; only Linux has the flag


@dataclass(frozen=True)
class World:
    """The places that a side's process uses; ``enter`` makes the process use them.

    ``paths`` come first on ``sys.path``. ``repository`` is the root of the head's checkout. Where ``checkout`` is
    given, it stands in the repository's place: as working directory, in ``sys.path``, and for whatever an editable
    install finds there. Without a checkout, ``closed`` says that code of the repository outside ``paths`` is the other
    side's, and importing it fails.
    """

    cwd: Path
    paths: tuple[Path, ...] = ()
    repository: Path | None = None
    checkout: Path | None = None
    closed: bool = False
    environment: Mapping[str, str] | None = None  # None: as the process has it

    def enter(self, extensions: Path | None = None) -> "Lent":
        """Make this process, and those that it starts, use these places; the process must hold one side and no more.

        Compiled modules are copied to ``extensions``, if that is given, and imported from there, unless that file
        system is mounted noexec. Returns the files that the head lends; modules that are imported later add to them.
        """
        if self.environment is not None:
            os.environ.clear()
            os.environ.update(self.environment)
        os.environ.update({name: self._moved_parts(value) for name, value in os.environ.items()})
        os.chdir(self._moved(self.cwd) or self.checkout or self.cwd)
        kept = [str(self._moved(Path(entry)) or entry) for entry in sys.path]
        sys.path[:] = [*map(str, self.paths), *kept]
        sys.path_importer_cache.clear()
        root = self.checkout or self.repository
        own = (one for one in kept if root is not None and one[:1] == os.sep and in_repository(Path(one), root))
        if first := [*map(str, self.paths), *own]:  # else child processes would import what an editable install names
            os.environ["PYTHONPATH"] = os.pathsep.join([*first, *filter(None, [os.environ.get("PYTHONPATH")])])
        common = frozenset(name.partition(".")[0] for name in sys.modules)
        if extensions is not None and os.statvfs(extensions.parent).f_flag & NO_EXECUTION:
            extensions = None
        finder = _Finder(self, common, extensions)
        sys.meta_path.insert(0, finder)
        return finder.lent

    def own(self, path: Path) -> bool:
        """Whether a file is the side's own source."""
        roots = [*self.paths, None if self.closed else self.checkout or self.repository]
        return any(root is not None and in_repository(path, root) for root in roots)

    def _moved_parts(self, value: str) -> str:
        """Return a variable's value, with the checkout's path in place of each entry that is a path of the repository.

        A folder stays if the checkout lacks a part of it, such as data that git ignores.
        """

        def moved(part: str) -> str:
            place = self._moved(Path(part)) if part[:1] == os.sep else None
            if place is None or self.repository is None:
                return part
            if place.is_dir() and Path(part).resolve() != self.repository.resolve():
                held, wanted = ({one.name for one in folder.iterdir()} for folder in (place, Path(part)))
                return str(place) if wanted <= {*held, "__pycache__"} else part
            return str(place)

        return os.pathsep.join(map(moved, value.split(os.pathsep)))

    def _moved(self, path: Path) -> Path | None:
        """Return where the checkout has what lies in the repository; None if it is not there, or not in it."""
        if self.checkout is None or self.repository is None or not in_repository(path, self.repository):
            return None
        moved = self.checkout / path.resolve().relative_to(self.repository.resolve())
        return moved if moved.exists() else None


@dataclass
class Lent:
    """Files of the head's repository that git ignores, so that a checkout lacks them, and that the side imports.

    ``sources`` were copied into the checkout. ``compiled`` were not, since they are the head's own.
    """

    sources: list[str] = field(default_factory=list)
    compiled: list[str] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the verdicts must know."""
        named = ", ".join(dict.fromkeys(self.sources))
        return (f"git ignores {named}, so the base uses the head's copy",) if named else ()

    def refuse_compiled(self) -> None:
        """Refuse a base whose compiled modules only the head has built.

        Raises:
            CannotDo: there are some.

        """
        if self.compiled:
            raise CannotDo(
                f"{self.compiled[0]} was built in the repository, and git ignores it, so the base has no such module: "
                "build the base in a directory of its own (pip install --target=DIR) and give --gate-base=DIR"
            )


class NotThisSide(ImportError):
    """A side imports code of the repository that its source does not hold."""


class _Finder(MetaPathFinder):
    """Finds the modules that the other finders find, but at the side's own places, and recompiles its own sources.

    Modules of packages that were imported before the process became a side, such as the gate's own, are left alone.
    """

    def __init__(self, world: World, common: frozenset[str], extensions: Path | None) -> None:
        self._world, self._common, self._extensions, self.lent = world, common, extensions, Lent()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self._common:
            return None
        if path is None and self._world.paths:  # even if another path was put before them on sys.path
            first = PathFinder.find_spec(fullname, [*map(str, self._world.paths)], target)
            if first is not None and first.has_location:
                return self._fresh(self._own(first))
        head_s: ModuleSpec | None = None
        for finder in sys.meta_path:
            if finder is self or (spec := finder.find_spec(fullname, path, target)) is None:
                continue
            if not self._is_head_s(spec):
                # A folder of type stubs stands for its module only where that is not built.
                ignored = self._elsewhere(fullname, path, None) if spec.loader is None else None
                return ignored or self._fresh(self._own(spec))
            if (moved := self._moved(spec)) is not None:
                return self._fresh(moved)
            head_s = spec
        return self._elsewhere(fullname, path, head_s)

    def _elsewhere(self, fullname: str, path: Sequence[str] | None, head_s: ModuleSpec | None) -> ModuleSpec | None:
        """Find a module that the checkout has at another place than the repository, or that only the repository has."""
        checkout, repository = self._world.checkout, self._world.repository
        if checkout is None or repository is None:
            return None
        if path is None:  # the package may have moved into src/, or out of it
            spec = PathFinder.find_spec(fullname, [str(checkout), str(checkout / "src")])
            if spec is not None and spec.has_location:
                return self._fresh(self._own(spec))
        if head_s is None:
            places = [Path(one) for one in (sys.path if path is None else path)]
            there = [str(repository / one.relative_to(checkout)) for one in places if one.is_relative_to(checkout)]
            head_s = PathFinder.find_spec(fullname, there)
        if head_s is None or head_s.origin is None or not self._is_head_s(head_s):
            return None
        if not is_ignored(repository, head_s.origin):
            return None
        if not isinstance(head_s.loader, SourceFileLoader):
            self.lent.compiled.append(head_s.origin)
            return None
        self.lent.sources.append(head_s.origin)
        copy = checkout / Path(head_s.origin).resolve().relative_to(repository.resolve())
        make_way(copy, checkout)
        shutil.copy2(head_s.origin, copy)  # processes that the side starts find it, too
        return self._moved(head_s)

    def _is_head_s(self, spec: ModuleSpec) -> bool:
        """Whether a module is a file of the repository, in whose place the side has a checkout."""
        world = self._world
        if world.checkout is None or world.repository is None or spec.origin is None or not spec.has_location:
            return False
        origin = Path(spec.origin)
        return not world.own(origin) and in_repository(origin, world.repository)

    def _fresh(self, spec: ModuleSpec) -> ModuleSpec:
        """Load a compiled module from a copy, which gets new pages of physical memory.

        A file keeps its pages as long as it is cached. Because of that, calls of 100 ns into two files of the same
        content differed by up to 13% in every run. A library that finds others relative to its own path is not copied.
        """
        if self._extensions is None or not isinstance(spec.loader, ExtensionFileLoader):
            return spec
        path = Path(spec.loader.path)
        if path.is_relative_to(sysconfig.get_path("stdlib")) or path.stat().st_size > LARGEST_COPY:
            return spec
        if b"$ORIGIN" in (content := path.read_bytes()):
            return spec
        copy = self._extensions / spec.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
        spec.loader, spec.origin = _Copied(spec.loader.name, str(copy), str(path)), str(copy)
        return spec

    def _own(self, spec: ModuleSpec) -> ModuleSpec:
        if spec.origin is None or not spec.has_location:
            return spec
        origin, world = Path(spec.origin), self._world
        own = world.own(origin)
        if not own and world.closed and world.repository is not None and in_repository(origin, world.repository):
            top = spec.name.partition(".")[0]
            raise NotThisSide(
                f"{top} lies in the repository beside the source that is compared, so both sides would run the "
                f"same {top}: give --source={top}, or a base that is a revision",
                name=spec.name,
            )
        return _uncached(spec, spec.loader) if own and isinstance(spec.loader, SourceFileLoader) else spec

    def _moved(self, spec: ModuleSpec) -> ModuleSpec | None:
        """Find in the checkout what an editable install found in the repository."""
        moved = self._world._moved(Path(spec.origin or ""))  # noqa: SLF001  # the world's own finder
        if moved is None:
            return None
        within = None if spec.submodule_search_locations is None else [str(moved.parent)]
        found = spec_from_file_location(spec.name, moved, submodule_search_locations=within)
        assert found is not None  # the kind of file has a loader, as the one in the repository had
        return self._own(found)


def _uncached(spec: ModuleSpec, loader: SourceFileLoader) -> ModuleSpec:
    spec.loader, spec.cached = _Uncached(loader.name, loader.path), None
    return spec


class _Copied(ExtensionFileLoader):
    """Loads a compiled module from a copy, with the original's path as its ``__file__``."""

    def __init__(self, name: str, copy: str, original: str) -> None:
        super().__init__(name, copy)
        self._original = original

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = self._original
        super().exec_module(module)
        module.__file__ = self._original


class _Uncached(SourceFileLoader):
    """Compiles a source from its text, since its bytecode may be stale.

    The code is marshalled and loaded again, so that it has the memory layout of code that is imported from bytecode:
    without that, the same code was measured 1% slower.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = marshal.loads(marshal.dumps(self.source_to_code(self.get_data(path), path)))  # noqa: S302  # ours
        return code


def in_repository(path: Path, repository: Path) -> bool:
    """Whether a file is the repository's own: below its root, and not in a virtual environment there."""
    path = path.resolve()
    root = repository.resolve()
    if not path.is_relative_to(root):
        return False
    return not any(path.is_relative_to(one) and one.is_relative_to(root) for one in _environments())


@cache  # asked at every import
def _environments() -> frozenset[Path]:
    places = {*site.getsitepackages(), sys.prefix, *map(sysconfig.get_path, ("purelib", "platlib", "stdlib"))}
    return frozenset(Path(place).resolve() for place in places)
