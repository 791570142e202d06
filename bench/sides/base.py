"""The base of a comparison: its code, if that loads here, and the facts that a stored baseline has about it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..cases import ROWS, Case, Row, matrix, supported_ids
from ..plain.errors import CannotDo
from ..plain.execution import Fingerprint
from .baseline import Baseline
from .side import Side, base_side
from .source import Source
from .what import ATTENTION, What


@dataclass(frozen=True)
class Base:
    """One base. Where its code does not load, ``error`` says why, and its stored facts are all there is."""

    side: Side | None
    source: Source
    environment: Mapping[str, str] = field(default_factory=dict)  # of the base's own interpreter, if it has one
    elsewhere: frozenset[str] | None = None  # the cases that it supports there, by id
    stored_errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # case id -> tensor -> error
    stored_fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)  # by case id
    stored_ids: tuple[str, ...] = ()  # of every stored case, even if its facts do not hold here
    error: str | None = None

    def supports(self, case: Case) -> bool:
        """Say whether its code has the case's subject and the subject supports the case."""
        if self.elsewhere is not None:
            return case.id in self.elsewhere
        return self.side is not None and self.side.supports(case)

    def ids(self, tier: str, devices: Sequence[str], rows: Sequence[Row] = ROWS) -> set[str]:
        """Return the ids of its cases of a tier on the devices, and of those that were stored."""
        if self.elsewhere is not None:
            return set(self.elsewhere)
        if self.side is None:
            return set(self.stored_ids)
        kernels, modules = self.side.kernels, self.side.modules
        # A baseline has times of a kernel from outside and not its source, so its absence is no loss.
        stored = {id_ for id_ in self.stored_ids if id_.partition("-")[0] in {*kernels, *modules}}
        return stored | supported_ids(matrix(kernels, modules, tier, devices, rows))


def stored_only(source: Source, stored: Baseline | None, here: Mapping[str, object]) -> Base:
    """Make a base without a side in this process, with those of its stored facts that hold here."""
    return Base(
        None,
        source,
        stored_errors={} if stored is None else stored.errors_in(here),
        stored_fingerprints={} if stored is None else stored.fingerprints_in(here),
        stored_ids=() if stored is None else tuple(stored.errors),
    )


@contextmanager
def loaded(
    source: Source,
    stored: Baseline | None,
    here: Mapping[str, object],
    repository: Path,
    *,
    what: What = ATTENTION,
    devices: Sequence[str] = ("cpu",),
    home: Path | None = None,
) -> Iterator[Base]:
    """Load a base in this process for as long as the context lasts, with those of its stored facts that hold here.

    ``here`` describes this process, ``repository`` is where the head's code lies; ``home`` as for ``base_side``.

    Raises:
        CannotDo: its code does not load, and no stored fingerprint that holds here can stand in for it.

    """
    base = stored_only(source, stored, here)
    with ExitStack() as resources:
        try:
            opened = base_side(source, repository=repository, what=what, devices=devices, home=home)
            base = replace(base, side=resources.enter_context(opened))
        except CannotDo as refused:
            if not base.stored_fingerprints:
                raise
            # Without times no case can pass, but what the head executes is still compared.
            base = replace(base, error=str(refused))
        yield base
