"""The base that a head is compared with: its code, if that loads here, and what a stored baseline knows of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from ..cases import matrix, supported_ids
from ..plain.errors import CannotDo
from ..plain.execution import Fingerprint
from .baseline import Baseline
from .side import Side, base_side
from .source import Source


@dataclass(frozen=True)
class Base:
    """One base. Without a side, ``error`` says why, and what was stored stands in for it as far as it goes."""

    side: Side | None
    source: Source
    environment: Mapping[str, str] = field(default_factory=dict)  # its interpreter's, if it has one of its own
    stored_errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # case id -> tensor -> error
    stored_fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)  # by case id
    stored_ids: tuple[str, ...] = ()  # of all cases that were stored, whether or not their facts hold here
    error: str | None = None

    def ids(self, tier: str, devices: Sequence[str]) -> set[str]:
        """Return the ids of its cases of a tier on the devices, and of those that were stored."""
        if self.side is None:
            return set(self.stored_ids)
        kernels, modules = self.side.kernels, self.side.modules
        # Of a kernel from outside, a baseline has times and no source: it cannot go missing.
        stored = {id_ for id_ in self.stored_ids if id_.partition("-")[0] in {*kernels, *modules}}
        return stored | supported_ids(matrix(kernels, modules, tier, devices))


@contextmanager
def loaded(
    source: Source, stored: Baseline | None, environment: Mapping[str, str], here: Mapping[str, object]
) -> Iterator[Base]:
    """Load a base for as long as the context lasts, with those of its stored facts that hold here.

    ``environment`` describes an interpreter of its own, ``here`` this process.

    Raises:
        CannotDo: its code does not load, and no stored fingerprint that holds here can stand in for it.

    """
    fingerprints = {} if stored is None else stored.fingerprints_in(here)
    side = error = None
    with ExitStack() as resources:
        try:
            side = resources.enter_context(base_side(source))
        except CannotDo as refused:
            if not fingerprints:
                raise
            error = str(refused)  # no times, so no case can pass; what the head executes is compared all the same
        yield Base(
            side,
            source,
            environment,
            stored_errors={} if stored is None else stored.errors_in(here),
            stored_fingerprints=fingerprints,
            stored_ids=() if stored is None else tuple(stored.errors),
            error=error,
        )
