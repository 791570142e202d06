"""What is known of the base of a comparison, beside what its process shows: its source, and facts that were stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..plain.execution import Fingerprint
from ..sources.baseline import Baseline
from ..sources.source import Source


@dataclass(frozen=True)
class Base:
    """One base. Where its code does not load, ``error`` says why, and its stored facts are all there is."""

    source: Source
    environment: Mapping[str, str] = field(default_factory=dict)  # of the base's own interpreter, if it has one
    stored_errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # case id -> tensor -> error
    stored_fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)  # by case id
    stored_ids: tuple[str, ...] = ()  # of every stored case, even if its facts do not hold here
    timed_ids: frozenset[str] = frozenset()  # of those that were timed
    error: str | None = None

    @classmethod
    def of(cls, source: Source, stored: Baseline | None, here: Mapping[str, object]) -> "Base":
        """Take the facts of a stored baseline that hold in the environment that ``here`` describes."""
        if stored is None:
            return cls(source)
        errors, fingerprints = stored.errors_in(here), stored.fingerprints_in(here)
        return cls(source, {}, errors, fingerprints, tuple(stored.errors), frozenset(stored.seconds))
