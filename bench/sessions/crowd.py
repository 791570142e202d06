"""Pairs of sessions that are not from one image, so that the base can have another interpreter."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..judging.statistics import PairedTest
from ..plain.errors import CannotDo
from ..plain.evidence import Measurement
from ..timing.measure import StoppingRule
from ..twins.bursts import MOST_PAIRS, measure_processes, note_of_processes
from ..twins.interpreter import place_of_gate, spawn
from ..twins.party import Remote, SideFailed
from .meeting import Arrived, SessionStart
from .pair import SessionPair

TWIN = f"{__package__}.twin"
NEEDED = ("pytest", "pytest_benchmark")  # of another interpreter


@dataclass
class Crowd:
    """A first pair of sessions, which runs every test, and others, each of which gives its measurements one more pair.

    The others are started when a measurement first needs them, and run no test but those that are measured in them.
    """

    first: SessionPair
    others: list[SessionPair] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        return (note_of_processes(1 + len(self.others), MOST_PAIRS),)

    def measure(self, node_id: str, test: PairedTest, budget_s: float) -> Measurement:
        """Measure a test at whose call the first pair waits, in one pair after the other until the test is certain.

        Raises:
            SideFailed: a side raised, ended, or did not get so far in another pair.

        """

        def measure_in(number: int, rule: StoppingRule, seconds: float) -> Measurement:
            if number == 0:
                return self.first.measure(rule, seconds)
            return self._measure_in_other(number - 1, node_id, rule, seconds)

        return measure_processes(measure_in, test, budget_s, MOST_PAIRS)

    def _measure_in_other(self, number: int, node_id: str, rule: StoppingRule, budget_s: float) -> Measurement:
        if number == len(self.others):
            starts = {
                label: replace(start, scratch=start.scratch.parent / f"session-{number}", shuffled=True)
                for label, start in self.first.starts.items()
            }
            order = self.first.order[:: 1 if number % 2 else -1]
            self.others.append(SessionPair(starts, order, self.first.launch))
        other = self.others[number]
        try:
            other.ready()
        except CannotDo as refusal:
            raise SideFailed(f"could not be measured in another process: {refusal}") from refusal
        steps = other.begin(node_id, {"head": None, "base": None})
        if not all(isinstance(step, Arrived) for step in steps.values()):
            raise SideFailed("reached its call in one process, and not in another")
        measured = other.measure(rule, budget_s)
        for label in steps:
            other.go_on(label)
        return measured

    def close(self) -> None:
        for other in self.others:
            other.close()


def launcher(pythons: Mapping[str, str], scratch: Path) -> Callable[[SessionStart], Remote]:
    """Return what starts a side's session under its interpreter, by label."""
    place = place_of_gate(scratch)

    def launch(start: SessionStart) -> Remote:
        remote = spawn(pythons.get(start.label, sys.executable), start.label, scratch, TWIN, place)
        remote.send("run", start)
        return remote

    return launch
