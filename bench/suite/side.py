"""One version of the code that is compared, as it is imported in this process: its kernels and modules by name."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ..plain.errors import CannotDo
from ..plain.evidence import Place
from ..sources.target import PACKAGE, Target
from . import adapters
from .cases import Case, lacks


@dataclass(frozen=True)
class Side:
    """Kernels and modules by name; ``label`` is base or head, for messages.

    ``undeclared`` names kernels from outside the package, whose capabilities show only when they are called.
    """

    label: str
    kernels: Mapping[str, Any]
    modules: Mapping[str, Any]
    undeclared: frozenset[str] = frozenset()
    tried_longer: set[str] = field(default_factory=set, compare=False)  # that were called at other lengths

    def supports(self, case: Case) -> bool:
        """Say whether the side has the case's subject and the subject supports the case."""
        if case.module:
            return case.subject in self.modules
        return case.subject in self.kernels and lacks(self.kernels[case.subject], case) is None

    def places(self, root: Path) -> dict[str, Place]:
        """Find where kernels and modules are written, by name; one from outside the root or without source has none."""
        found = {name: _place(subject, root.resolve()) for name, subject in {**self.kernels, **self.modules}.items()}
        return {name: place for name, place in found.items() if place is not None}

    @classmethod
    def of(cls, label: str, package: ModuleType) -> "Side":
        """Read the registries of an imported attention package."""
        return cls(label, package.KERNELS, dict(getattr(package, "MODULES", {})))


def load(target: Target, devices: Sequence[str], label: str = "head") -> Side:
    """Import what is compared, from where this process finds it.

    Raises:
        CannotDo: a kernel from outside cannot be imported, or is none, or the package registers no kernels.

    """
    if target.kernels:
        kernels = adapters.load(target.kernels, devices)
        return Side(label, kernels, {}, frozenset(kernels))
    package = importlib.import_module(PACKAGE)
    if not getattr(package, "KERNELS", None):
        raise CannotDo(f"the {label} has no {PACKAGE}.KERNELS: choose a {label} that registers some")
    return Side.of(label, package)


def _place(subject: Any, root: Path) -> Place | None:
    written = inspect.unwrap(getattr(subject, "function", subject))
    try:
        file = Path(inspect.getsourcefile(written) or "").resolve()
        _, line = inspect.getsourcelines(written)
    except (TypeError, OSError):  # built in, or not from a file
        return None
    return Place(file.relative_to(root).as_posix(), line) if file.is_relative_to(root) else None
