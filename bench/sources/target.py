"""The target of a run: the attention package or kernels from outside, and the packages that are its source."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..plain.errors import CannotDo

PACKAGE = "attention"
SUITE = Path(__file__).resolve().parents[2]  # the checkout of the gate itself


@dataclass(frozen=True)
class Target:
    """The kernels that were asked for, and what counts as their source.

    ``kernels`` are ``package.module:function``; without any, it is the attention package. ``sources`` are top-level
    packages and modules that belong to the source beside those.
    """

    kernels: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """The top-level packages and modules that the kernels are in."""
        tops = [kernel.partition(":")[0].partition(".")[0] for kernel in self.kernels]
        return tuple(dict.fromkeys(tops or [PACKAGE]))

    @property
    def names(self) -> tuple[str, ...]:
        """All that make up the source."""
        return tuple(dict.fromkeys([*self.packages, *self.sources]))


ATTENTION = Target()


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Import from a folder first, for as long as the context lasts."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def place_of(name: str) -> Path:
    """Return the folder from which a top-level package or module is imported here.

    Raises:
        CannotDo: there is none of that name, or it is not made of files.

    """
    loaded = sys.modules.get(name)
    try:
        spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise CannotDo(
            f"{name} cannot be found here ({error}): name a package or module that can be imported"
        ) from error
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    if folders:
        return Path(folders[0]).resolve().parent
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise CannotDo(
            f"{name} is no package or module made of files here: name one that can be imported, or install it"
        )
    return Path(spec.origin).resolve().parent
