"""Finds the code of both sides of a run, and starts their sessions."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..plain.errors import CannotDo
from ..sources.repository import top_level
from ..sources.world import Lent
from ..timing.machine import thread_limits
from ..twins.interpreter import interpreter, place_of_gate
from ..twins.party import SideFailed
from . import code
from .code import RepositoryCode
from .measuring import InProcesses, InTwins, Measuring
from .meeting import Arrived, SessionStart
from .pair import Launch, SessionPair, forked, launcher
from .settings import SessionSettings

NEEDED = ("pytest", "pytest_benchmark")  # of another interpreter


@dataclass(frozen=True)
class Selection:
    """What pytest selected in the head.

    ``known`` are the tests that the head has not lost: ``tests``, and those that a plugin left out, which may leave out
    others of the base's. ``elsewhere`` are those that other shards run. ``asked`` are the paths and modules, and
    ``filters`` the options of the command line, by which they were selected. ``settings`` is the file of pytest's.
    ``cwd`` and ``environment`` are those of pytest before it imported the repository's code, which may change both;
    each side's process starts from them.
    """

    root: Path
    settings: Path | None
    files: tuple[Path, ...]
    tests: tuple[str, ...]  # that use the fixture, by node id
    known: frozenset[str]
    asked: tuple[str, ...]
    filters: tuple[str, ...]
    arguments: tuple[str, ...]
    options: Mapping[str, Any]
    cwd: Path
    environment: Mapping[str, str]
    elsewhere: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # warnings about what is not compared


@dataclass(frozen=True)
class Opened:
    """Both sides of a run. ``versions`` are those of the base's own interpreter, if it has one.

    ``given`` are the paths in the base's checkout before any test ran.
    """

    head: RepositoryCode
    base: RepositoryCode
    pair: SessionPair
    own: "OwnTests"
    measuring: Measuring
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    given: frozenset[Path] = frozenset()

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.warnings, *self.measuring.notes)

    def afresh(self) -> AbstractContextManager[None]:
        """Let new processes find the base's checkout as it was before any test ran."""
        return code.holding_only(self.given, self.base.world)

    def lent(self) -> Lent:
        """Return which files of the head's repository the base has because git ignores them.

        Raises:
            CannotDo: the base lacks compiled ones.

        """
        try:
            found: Lent = self.pair.parties["base"].ask("lent")
        except SideFailed:  # its process has ended
            return Lent()
        found.refuse_compiled()
        return found

    def refuse_code_that_nobody_imports(self) -> None:
        """Refuse a base whose code no test has imported: both sides ran the same.

        Raises:
            CannotDo: it is such a base.

        """
        try:
            if self.pair.starts["base"].installed or self.pair.parties["base"].ask("imports_own"):
                return
        except SideFailed:  # its process has ended
            return
        place = ", ".join(map(str, self.base.world.paths)) or self.base.origin
        raise CannotDo(
            f"no test has imported any module of {place}, so base and head ran the same code: install the package "
            "that is measured from the repository (pip install --editable), or give a base directory that holds it"
        )


@dataclass
class OwnTests:
    """The tests that the base had before the head's were laid over it; none where ``start`` is None.

    ``asked`` are the paths, and what follows them in a node id, by which tests were asked for. The base collects whole
    files, since pytest collects nothing at all if it does not know one of several node ids. Their session is started
    when something is first asked of it.
    """

    start: SessionStart | None
    launch: Launch = forked
    asked: tuple[tuple[Path, str], ...] = ()

    def __post_init__(self) -> None:
        self._session = None if self.start is None else SessionPair({"base": self.start}, ("base",), self.launch)

    @cached_property
    def found(self) -> tuple[frozenset[str], tuple[str, ...]]:
        """The ids of those that use the fixture, and a note where they cannot be known."""
        if self._session is None:
            return frozenset(), ()
        try:
            self._session.parties.ready()
        except CannotDo as refusal:
            said = " ".join(str(refusal).split())
            return frozenset(), (f"the base's own tests cannot be collected, so a lost one is not MISSING ({said})",)
        found, start = self._session.collected["base"], self._session.starts["base"]
        return frozenset(id_ for id_ in found.selected if found.tests[id_] and self._is_asked(start, id_)), ()

    def calls(self, node_id: str) -> bool:
        """Whether the base's own test of this id, which may differ from the head's, calls the fixture."""
        if self._session is None or node_id not in self.found[0]:
            return False
        try:
            self._session.parties.ready()  # an earlier test may have ended its process
        except CannotDo:
            return False
        arrived = isinstance(self._session.begin(node_id, {"base": None})["base"], Arrived)
        if arrived:
            self._session.go_on("base")
        return arrived

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _is_asked(self, start: SessionStart, node_id: str) -> bool:
        file, _, inside = node_id.partition("::")
        path = (start.root / file).resolve()
        return any(
            path.is_relative_to(place) and (not rest or inside == rest or inside.startswith((f"{rest}::", f"{rest}[")))
            for place, rest in self.asked
        )


@contextmanager
def opened(settings: SessionSettings, selection: Selection) -> Iterator[Opened]:
    """Hold both sessions for as long as the context lasts.

    Raises:
        CannotDo: the base cannot be had, or a session does not start.

    """
    selection = replace(selection, environment={**selection.environment, **thread_limits(settings.threads)})
    with TemporaryDirectory(prefix="twinbench-") as directory, ExitStack() as stack:
        scratch, top = Path(directory).resolve(), top_level(selection.root) or selection.root
        head = code.of_disk(top) if settings.head is None else code.of_head(top, settings.head, scratch / "head")
        warnings: tuple[str, ...] = ()
        if settings.base is None:
            base = code.of_disk(top)
        else:
            base, warnings = code.of_name(top, settings.base, scratch / "base")
        launch: Launch = forked
        versions: Mapping[str, str] = {}
        if (python := settings.base_python) is not None:
            launch = launcher(python, scratch, selection.environment)
            versions = interpreter(python, NEEDED, place_of_gate(scratch))
            base = replace(base, origin=f"{base.origin} under {python} (Python {versions['python']})")
        own, sides = OwnTests(None), {"head": head, "base": base}
        if base.own is not None and settings.head is None:  # else the tests are those on disk, whatever the head had
            start, asked = _start_of_own(settings, selection, replace(base, world=base.own), scratch)
            own = stack.enter_context(closing(OwnTests(start, launch, asked)))
        for side in sides.values():
            code.lay_over(selection.files, selection.settings, side.world)
        given = code.present(base.world)
        starts = {label: _start(settings, selection, label, side, scratch) for label, side in sides.items()}
        both = stack.enter_context(closing(SessionPair(starts, launch=launch)))
        both.parties.ready()
        measuring = InTwins(both) if python is None else stack.enter_context(closing(InProcesses(both)))
        yield Opened(head, base, both, own, measuring, versions, warnings, given)


def _start(
    settings: SessionSettings, selection: Selection, label: str, side: RepositoryCode, scratch: Path
) -> SessionStart:
    root = code.moved(selection.root, side.world)
    file = None if selection.settings is None else code.moved(selection.settings, side.world)
    given = ["-c", str(file)] if file is not None and file.exists() else []
    if "no:cacheprovider" not in selection.arguments:
        given += ["-o", f"cache_dir={scratch / f'{label}-cache'}"]
    another_python = label == "base" and settings.base_python is not None
    environment = None if another_python else selection.environment  # the launcher has adapted that to another Python
    return SessionStart(
        label,
        replace(side.world, cwd=selection.cwd, environment=environment),
        root,
        tuple(str(code.moved(path, side.world)) for path in selection.files),
        (*selection.arguments, *given, f"--rootdir={root}"),
        selection.options,
        settings.threads,
        scratch / "session",
        installed=label == "base" and settings.base is None,
        slowed=0.0 if settings.slowed is not None and label == "base" else settings.slowed,
    )


def _start_of_own(
    settings: SessionSettings, selection: Selection, base: RepositoryCode, scratch: Path
) -> tuple[SessionStart | None, tuple[tuple[Path, str], ...]]:
    """Return how the base's own tests are run, and which were asked for; None where it has nothing of these."""
    start = _start(settings, selection, "base", base, scratch)
    options, places, asked = [], [], []
    for option in selection.filters:
        name, equals, place = option.partition("=")
        where = code.moved(selection.cwd / place, start.world)
        options.append(f"{name}={where}" if name.startswith("--ignore") and equals else option)
    for argument in selection.asked:
        path, _, rest = argument.partition("::")
        there = code.moved(Path(path), start.world)
        if not Path(path).is_absolute():  # a module
            places.append(argument)
            asked.append((Path("/"), ""))
        elif there.exists():
            places.append(str(there))
            asked.append((there.resolve(), rest))
    files = (*options, *dict.fromkeys(places))
    own = {name: value for name, value in start.options.items() if name not in ("keyword", "markexpr")}
    found = replace(start, files=files, options=own, scratch=scratch / "own")
    return found if places else None, tuple(asked)
