"""A stopping rule for tests of measuring."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StopAfter:
    least_pairs = 1
    pairs: int

    def is_certain(self, ordered: Sequence[float]) -> bool:
        return len(ordered) >= self.pairs
