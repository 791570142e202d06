"""The processes that a run holds, by label: started together, replaced when they have ended, ended together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..plain.errors import CannotDo
from .party import Remote, SideFailed


@dataclass
class Parties:
    """Processes by label, in the order in which they are started.

    ``launch`` starts one and sends its first command, whose answer says that it is ready, and goes into ``answers``.
    ``advice`` ends the message about one that fails before.
    """

    labels: Sequence[str]
    launch: Callable[[str], Remote]
    advice: str
    answers: dict[str, Any] = field(default_factory=dict)
    _started: dict[str, Remote] = field(default_factory=dict)
    _awaited: set[str] = field(default_factory=set)  # those that have not answered yet

    def __getitem__(self, label: str) -> Remote:
        return self._started[label]

    @property
    def living(self) -> list[Remote]:
        return [party for party in self._started.values() if party.is_alive]

    def begin(self) -> None:
        """Start what does not live, without waiting for it."""
        for label in self.labels:
            if (old := self._started.get(label)) is not None:
                if old.is_alive:
                    continue
                old.close()
            self._started[label] = self.launch(label)
            self._awaited.add(label)

    def wait(self) -> None:
        """Wait until all that was started is ready.

        Raises:
            CannotDo: one failed before; ``begin`` starts it again.

        """
        for label in [label for label in self.labels if label in self._awaited]:
            self._awaited.remove(label)
            try:
                self.answers[label] = self[label].receive()
            except (SideFailed, CannotDo) as failure:
                self[label].close()
                if isinstance(failure, CannotDo):
                    raise
                raise CannotDo(f"{failure}{self.advice}") from failure

    def ready(self) -> None:
        """Start what does not live, and wait for it.

        Raises:
            CannotDo: one failed before it was ready.

        """
        self.begin()
        self.wait()

    def close(self) -> None:
        """End all; each learns that the run is over before any is waited for."""
        for party in self._started.values():
            party.hang_up()
        for party in self._started.values():
            party.close()
