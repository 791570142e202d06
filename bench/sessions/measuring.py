"""How a run times the calls at which both sessions of a test wait: in twins, or in pairs of processes.

Both raise ``SideFailed`` where a side raised, ended, or did not reach the call in another pair. Twins share the budget
of the run among its tests; a pair of processes takes too long for that, so each test has the most that one may take.
``notes`` tell a reader of the verdicts how they were measured.
"""

from dataclasses import dataclass, field, replace

from ..judging.statistics import PairedTest
from ..plain.evidence import Measurement, Timing
from ..timing.budget import SharedBudget
from ..timing.measure import StoppingRule
from ..twins.between import MOST_PAIRS, measure_processes, measure_until_decided, note_of_processes, replicate
from .pair import SessionPair


@dataclass(frozen=True)
class InTwins:
    """What the first pair of twins does not make clear is measured again, each time in a new one."""

    first: SessionPair
    notes: tuple[str, ...] = ()

    def time(self, node_id: str, test: PairedTest, budget: SharedBudget) -> Timing:
        def measure_in(number: int, rule: StoppingRule, seconds: float) -> Measurement:
            if number == 0:
                return self.first.measure(rule, seconds)
            with self.first.again(node_id) as other:
                return other.measure_test(node_id, rule, seconds, "may be slower, and could not be measured again")

        measurements = measure_until_decided(measure_in, test, budget.allowance_s(self.first.time_calls()))
        return Timing(measurements, replicate(measure_in, measurements, test, budget.cap_s))


@dataclass
class InProcesses:
    """Pairs of processes that are not from one image, so that the base can have another interpreter.

    The first pair runs every test. The others are started when a measurement first needs them, and run no test but
    those that are measured in them. Each gives a measurement one pair, which takes longer than a share of the budget.
    """

    first: SessionPair
    others: list[SessionPair] = field(default_factory=list)

    @property
    def notes(self) -> tuple[str, ...]:
        return (note_of_processes(1 + len(self.others), MOST_PAIRS),)

    def time(self, node_id: str, test: PairedTest, budget: SharedBudget) -> Timing:
        def measure_in(number: int, rule: StoppingRule, seconds: float) -> Measurement:
            if number == 0:
                return self.first.measure(rule, seconds)
            other = self._other(number)
            measured = other.measure_test(node_id, rule, seconds, "could not be measured in another process")
            for label in other.order:
                other.go_on(label)
            return measured

        return Timing((measure_processes(measure_in, test, budget.cap_s, MOST_PAIRS),))

    def _other(self, number: int) -> SessionPair:
        """Return the pair of this number from 1, one more than there are at the most."""
        if number > len(self.others):
            starts = {
                label: replace(start, scratch=start.scratch.parent / f"session-{number - 1}", shuffled=True)
                for label, start in self.first.starts.items()
            }
            order = self.first.order[:: -1 if number % 2 else 1]
            self.others.append(SessionPair(starts, order, self.first.launch))
        return self.others[number - 1]

    def close(self) -> None:
        for other in self.others:
            other.close()


Measuring = InTwins | InProcesses
