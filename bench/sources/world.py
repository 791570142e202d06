"""What a side's process sees of the disk: its own code first, a checkout in the repository's place, no old bytecode."""

import marshal
import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

LARGEST_COPY = 64 << 20  # bytes of a compiled module
NO_EXECUTION: int = getattr(os, "ST_NOEXEC", 0)  # a flag of file systems, which Linux tells


@dataclass(frozen=True)
class World:
    """The places that a side's process uses; ``enter`` makes the process use them.

    ``paths`` come first on ``sys.path``. ``repository`` is the root of the head's checkout. Where ``checkout`` is
    given, it stands in the repository's place: as working directory, in ``sys.path``, and for whatever an editable
    install finds there. Where it is not, ``closed`` says that code of the repository that does not lie in ``paths`` is
    the other side's, and importing it fails.
    """

    cwd: Path
    paths: tuple[Path, ...] = ()
    repository: Path | None = None
    checkout: Path | None = None
    closed: bool = False
    environment: Mapping[str, str] | None = None  # None: as the process has it

    def enter(self, extensions: Path | None = None) -> None:
        """Make this process see it; for a process that holds one side and nothing else.

        Compiled modules are copied to ``extensions``, if that is given, and imported from there, unless its file system
        lets nothing be executed.
        """
        if self.environment is not None:
            os.environ.clear()
            os.environ.update(self.environment)
        os.chdir(self._moved(self.cwd) or self.checkout or self.cwd)
        kept = [str(self._moved(Path(entry)) or entry) for entry in sys.path]
        sys.path[:] = [*map(str, self.paths), *kept]
        sys.path_importer_cache.clear()
        common = frozenset(name.partition(".")[0] for name in sys.modules)
        if extensions is not None and os.statvfs(extensions.parent).f_flag & NO_EXECUTION:
            extensions = None
        sys.meta_path.insert(0, _Finder(self, common, extensions))

    def own(self, path: Path) -> bool:
        """Whether a file is the side's own source."""
        roots = [*self.paths, None if self.closed else self.checkout or self.repository]
        return any(root is not None and in_repository(path, root) for root in roots)

    def _moved(self, path: Path) -> Path | None:
        """Return where the checkout has what lies in the repository; None if it is not there, or not in it."""
        if self.checkout is None or self.repository is None or not in_repository(path, self.repository):
            return None
        moved = self.checkout / path.resolve().relative_to(self.repository.resolve())
        return moved if moved.exists() else None


class NotThisSide(ImportError):
    """A side imports code of the repository that its source does not hold."""


class _Finder(MetaPathFinder):
    """Finds what the other finders find, where the side has it, and compiles the side's own sources anew.

    Modules of packages that were imported before the process became a side, such as the gate's own, are left alone.
    """

    def __init__(self, world: World, common: frozenset[str], extensions: Path | None) -> None:
        self._world, self._common, self._extensions = world, common, extensions

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self._common:
            return None
        if path is None and self._world.paths:  # whatever others have put before them on sys.path
            first = PathFinder.find_spec(fullname, [*map(str, self._world.paths)], target)
            if first is not None and first.has_location:
                return self._fresh(self._own(first))
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)) is not None:
                return self._fresh(self._own(spec))
        return None

    def _fresh(self, spec: ModuleSpec) -> ModuleSpec:
        """Load a compiled module from a copy.

        Which pages of physical memory a file has, it keeps as long as it is cached, and calls of 100 ns were up to 13%
        slower by two files of the same content in every run. A copy draws its pages anew. A library that finds others
        by its own place stays where it is.
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
        if not world.own(origin) and world.repository is not None and in_repository(origin, world.repository):
            if world.checkout is not None:
                return self._moved(spec, origin)
            if world.closed:
                top = spec.name.partition(".")[0]
                raise NotThisSide(
                    f"{top} lies in the repository beside the source that is compared, so both sides would run the "
                    f"same {top}: give --source={top}, or a base that is a revision",
                    name=spec.name,
                )
        if world.own(origin) and isinstance(spec.loader, SourceFileLoader):
            spec.loader, spec.cached = _Uncached(spec.loader.name, spec.loader.path), None
        return spec

    def _moved(self, spec: ModuleSpec, origin: Path) -> ModuleSpec:
        """Find in the checkout what an editable install found in the repository."""
        moved = self._world._moved(origin)  # noqa: SLF001  # its own finder
        if moved is None:
            raise ModuleNotFoundError(f"No module named {spec.name!r} in this revision", name=spec.name)
        within = None if spec.submodule_search_locations is None else [str(moved.parent)]
        found = spec_from_file_location(spec.name, moved, submodule_search_locations=within)
        assert found is not None  # the kind of file has a loader, as the one in the repository had
        return self._own(found)


class _Copied(ExtensionFileLoader):
    """Loads a compiled module from a copy, and tells it its own place."""

    def __init__(self, name: str, copy: str, original: str) -> None:
        super().__init__(name, copy)
        self._original = original

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = self._original
        super().exec_module(module)
        module.__file__ = self._original


class _Uncached(SourceFileLoader):
    """Compiles a source from its text, since bytecode may be of a text that is gone.

    The code is packed and unpacked as bytecode is, so that it lies in memory as that of a package which is imported
    from bytecode: of the same code, what was compiled in place was measured 1% slower.
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


def _environments() -> Iterator[Path]:
    for place in {*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sys.prefix}:
        yield Path(place).resolve()
    yield Path(sysconfig.get_path("stdlib")).resolve()
