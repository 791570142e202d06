"""Two twins that run the same pytest session in step, one test after the other."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from ..plain.errors import CannotDo
from ..plain.evidence import Measurement
from ..timing.measure import Never, StoppingRule
from ..twins.bursts import measure_bursts, measure_twins
from ..twins.fork import fork
from ..twins.party import Remote, SideFailed
from . import twin
from .meeting import Arrived, Collected, Finished, SessionStart, Step

ALONE_S = 0.2  # of timing a head whose base cannot run the test


def forked(start: SessionStart) -> Remote:
    """Fork a session from the image."""
    return fork(start.label, partial(twin.run, start))


@dataclass
class SessionPair:
    """Head and base, each a pytest session in a process of its own; ``order`` says which is forked first."""

    starts: Mapping[str, SessionStart]  # by label
    order: tuple[str, ...] = ("head", "base")
    launch: Callable[[SessionStart], Remote] = forked
    parties: dict[str, Remote] = field(default_factory=dict)
    collected: dict[str, Collected] = field(default_factory=dict)

    def ready(self) -> None:
        """Fork what does not live, and wait until it has collected.

        Raises:
            CannotDo: a session does not start.

        """
        lacking = [label for label in self.order if label not in self.parties or not self.parties[label].is_alive]
        for label in lacking:
            if (old := self.parties.pop(label, None)) is not None:
                old.close()
            self.parties[label] = self.launch(self.starts[label])
        for label in lacking:
            try:
                self.collected[label] = self.parties[label].receive()
            except SideFailed as failure:
                raise CannotDo(f"{failure}, when it collected its tests: run pytest without the gate") from failure

    def begin(self, node_id: str, following: Mapping[str, str | None]) -> dict[str, Step | SideFailed]:
        """Start a test on each side that ``following`` names, by the test that will be next there.

        Both run at once. Returns how far each has come: at the fixture, at its end, or that its process ended.
        """
        for label, after in following.items():
            self.parties[label].send("run", node_id, after)
        return {label: self._step(label) for label in following}

    def go_on(self, label: str, seconds: Sequence[float] = (), calls: int = 1) -> Step | SideFailed:
        """Let a test that waits at the fixture go on, with the seconds that bursts of its calls took."""
        self.parties[label].send("go_on", seconds, calls)
        return self._step(label)

    def _step(self, label: str) -> Step | SideFailed:
        try:
            step: Step = self.parties[label].receive()
        except (SideFailed, CannotDo) as failure:
            return failure if isinstance(failure, SideFailed) else SideFailed(str(failure))
        return step

    def measure(self, rule: StoppingRule, budget_s: float) -> Measurement:
        """Time the calls that both sides wait with.

        Raises:
            SideFailed: a call raised, or its process ended.

        """
        threads = self.starts["head"].threads
        return measure_twins(self.parties["base"], self.parties["head"], rule, budget_s, threads)

    def time_head(self) -> Measurement:
        """Time the head's call alone, as both sides of a measurement that nobody judges."""
        return measure_bursts(self.parties["head"], self.parties["head"], Never(), ALONE_S)

    @contextmanager
    def again(self, node_id: str, labels: Collection[str] = ("head", "base")) -> Iterator["SessionPair"]:
        """Fork another pair, in the other order, that collects the tests of one file alone; or only one side of it."""
        file = node_id.partition("::")[0]
        starts = {
            label: replace(start, files=(str(start.root / file),), scratch=start.scratch / "again", shuffled=True)
            for label, start in self.starts.items()
            if label in labels
        }
        order = tuple(label for label in reversed(self.order) if label in labels)
        with pair(starts, order, self.launch) as other:
            yield other

    def close(self) -> None:
        """End both sessions: they tear down what their tests share."""
        for party in self.parties.values():
            party.send("end")
        for party in self.parties.values():
            party.close()


@contextmanager
def pair(
    starts: Mapping[str, SessionStart],
    order: tuple[str, ...] = ("head", "base"),
    launch: Callable[[SessionStart], Remote] = forked,
) -> Iterator[SessionPair]:
    """Hold a pair of sessions for as long as the context lasts.

    Raises:
        CannotDo: a session does not start.

    """
    held = SessionPair(starts, order, launch)
    try:
        held.ready()
        yield held
    finally:
        held.close()


def arrived(step: Step | SideFailed | None) -> bool:
    return isinstance(step, Arrived)


def finished(step: Step | SideFailed | None) -> Finished:
    """Return the reports of a test that is over; none where its process ended."""
    return step if isinstance(step, Finished) else Finished(())
