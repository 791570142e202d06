"""The two sides of a comparison: head is the code that is imported here, base another source loaded beside it."""

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ..cases import Case, lacks
from ..plain.errors import CannotDo
from ..plain.progress import progress
from . import libraries, operators, outside, watched
from .reach import refuse_code_outside
from .source import Source
from .view import View
from .what import ATTENTION, PACKAGE, What

EXTENSIONS = "TORCH_EXTENSIONS_DIR"  # in it torch builds what torch.utils.cpp_extension compiles
WAY_OUT = "compare with --gate-base-python, which gives each side a process of its own"


@dataclass(frozen=True)
class Side:
    """One version of the code that is compared: its kernels and modules by name, and the view to call them in.

    ``undeclared`` names kernels from outside the package, whose capabilities show only when they are called.
    """

    label: str
    kernels: Mapping[str, Any]
    modules: Mapping[str, Any]
    undeclared: frozenset[str] = frozenset()
    view: View = field(default_factory=lambda: View([PACKAGE]))
    changed: tuple[str, ...] = ()  # what its import changed in torch, for messages

    def supports(self, case: Case) -> bool:
        """Say whether the side has the case's subject and the subject supports the case."""
        if case.module:
            return case.subject in self.modules
        return case.subject in self.kernels and lacks(self.kernels[case.subject], case) is None

    @classmethod
    def of(cls, label: str, package: ModuleType, view: View | None = None) -> "Side":
        """Read the registries of an imported attention package."""
        return cls(label, package.KERNELS, dict(getattr(package, "MODULES", {})), view=view or View([PACKAGE]))


def head_side(what: What, devices: Sequence[str], label: str = "head") -> Side:
    """Return the side that is imported here, under its own names.

    Raises:
        CannotDo: a kernel from outside cannot be imported, or is none.

    """
    operators.watch()
    view = View(what.names)
    with view:
        return _side(what, devices, label, view)


@contextmanager
def base_side(
    source: Source,
    label: str = "base",
    repository: Path | None = None,
    *,
    what: What = ATTENTION,
    devices: Sequence[str] = ("cpu",),
    alone: bool = False,
    home: Path | None = None,
) -> Iterator[Side]:
    """Import the source in this process, in a view of its own, for as long as the context lasts.

    ``what`` names what is compared; if the source lacks some of it, the side does not get the other side's instead.
    ``repository`` is where the head lies: a source that needs code there and does not hold it is refused. A side that
    is ``alone`` in its process may change torch; ``Side.changed`` says what it changed. Processes with the same
    ``home``, a directory that outlives them, share the source's files there, and the extensions that it compiles.

    Raises:
        CannotDo: it is not a zip, does not import, has no kernels, or shares more with the head than can be told apart.

    """
    own = Path(tempfile.mkdtemp(prefix="attention-base-", dir=home))
    view: View | None = None
    try:
        names = source.names | {*what.names}
        directory = _unpacked(source, own, home)
        view = View(names, directory, alone=alone)
        if missing := set(what.packages) - source.names:
            raise CannotDo(f"the source in {source.origin} holds no {min(missing)}: store the baseline anew")
        who = f"the {label}, {source.origin},"
        refuse_code_outside(sorted(directory.rglob("*.py")), view.names, repository, who)
        if not alone:
            operators.watch()
            libraries.watch()
        side = _imported(what, devices, view, label, who, directory=directory, alone=alone)
        if side.changed and not alone:
            raise CannotDo(f"{who} changes {side.changed[0]} when it is imported, which both sides share: {WAY_OUT}")
        yield side
    finally:
        if view is not None:
            view.close()
        shutil.rmtree(own, ignore_errors=True)


def _unpacked(source: Source, own: Path, home: Path | None) -> Path:
    """Unpack a source to where every process that has the same home finds it, or to the directory of its own."""
    if home is None:
        source.unpack(own)
        return own
    shared = home / f"source-{source.sha256}"
    if not shared.is_dir():
        source.unpack(own)
        try:
            own.rename(shared)
        except OSError:
            if not shared.is_dir():  # else another process was first
                raise
    return shared


def _imported(
    what: What, devices: Sequence[str], view: View, label: str, who: str, *, directory: Path, alone: bool
) -> Side:
    try:
        watching = watched.watching(watched.all_functions, put_back=not alone)
        # Beside the other side's, torch gives an extension of the same name another one, and builds it anew for that.
        building = _extensions_built_in(directory / f".extensions-{'alone' if alone else 'beside'}", put_back=not alone)
        with progress(f"{who} is being imported"), building, watching as changed, view:
            side = _side(what, devices, label, view)
    except (Exception, SystemExit) as error:
        if (refusal := _refusal(error)) is not None:
            raise refusal from error
        raise CannotDo(
            f"{who} does not import ({type(error).__name__}: {error}): "
            "choose a base that runs with the packages installed here"
        ) from error
    return replace(side, changed=tuple(changed))


@contextmanager
def _extensions_built_in(directory: Path, *, put_back: bool) -> Iterator[None]:
    """Have torch build a side's extensions in a directory of its own.

    Built where the other side's are, under the same name, each would be built anew after the other, in every process.
    """
    before = os.environ.get(EXTENSIONS)
    os.environ[EXTENSIONS] = str(directory)
    try:
        yield
    finally:
        if put_back:
            del os.environ[EXTENSIONS]
            os.environ.update({} if before is None else {EXTENSIONS: before})


def _side(what: What, devices: Sequence[str], label: str, view: View) -> Side:
    """Import what is compared, in the view that is active."""
    if what.kernels:
        kernels = outside.load(what.kernels, devices)
        return Side(label, kernels, {}, frozenset(kernels), view)
    package = importlib.import_module(PACKAGE)
    if not getattr(package, "KERNELS", None):
        raise CannotDo(f"the {label} has no {PACKAGE}.KERNELS: choose a {label} that registers some")
    return Side.of(label, package, view)


def _refusal(error: BaseException | None) -> CannotDo | None:
    """Find our own CannotDo among the causes of an exception that an import raised."""
    while error is not None:
        if isinstance(error, CannotDo):
            return error
        error = error.__cause__ or error.__context__
    return None
