"""One version of the code that is compared, as it is imported in this process: its kernels and modules by name."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ..plain.errors import CannotDo
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
