"""Two processes that run the same pytest session in step, one test after the other."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from secrets import token_hex

from ..plain.errors import CannotDo
from ..plain.evidence import Measurement
from ..timing.measure import StoppingRule
from ..twins.bursts import measure_twins
from ..twins.fork import fork
from ..twins.interpreter import environment_for, place_of_gate, spawn
from ..twins.parties import Parties
from ..twins.party import Remote, SideFailed
from . import twin
from .difference import Difference
from .meeting import Arrived, Collected, Finished, SessionStart, Step
from .reports import error_of

CACHES, TEMPORARY = Path("caches"), Path("tmp")

Launch = Callable[[SessionStart], Remote]


def forked(start: SessionStart) -> Remote:
    """Fork a session from the image."""
    return fork(start.label, partial(twin.run, start))


def launcher(base_python: str, scratch: Path, environment: Mapping[str, str]) -> Launch:
    """Return what starts the base's session under its own interpreter, and the head's under this one."""
    place = place_of_gate(scratch)

    def launch(start: SessionStart) -> Remote:
        python = base_python if start.label == "base" else sys.executable
        remote = spawn(python, start.label, scratch, twin.__name__, environment_for(python, place, environment))
        remote.send("run", start)
        return remote

    return launch


@dataclass
class SessionPair:
    """Head and base, each a pytest session in a process of its own; ``order`` says which is started first."""

    starts: Mapping[str, SessionStart]  # by label
    order: tuple[str, ...] = ("head", "base")
    launch: Launch = forked

    def __post_init__(self) -> None:
        advice = ", when it collected its tests: run pytest without the gate"
        self.parties = Parties(self.order, lambda label: self.launch(self.starts[label]), advice)

    @property
    def collected(self) -> Mapping[str, Collected]:
        """What each session collected when it was started last."""
        return self.parties.answers

    @property
    def places(self) -> dict[Path, Path]:
        """What a path of a side's own counts as in results: the repository's, or one that all sides have in common."""
        found: dict[Path, Path] = {}
        for one in self.starts.values():
            found |= {one.caches: CACHES, one.temporary: TEMPORARY}
            if one.world.checkout is not None and one.world.repository is not None:
                found[one.world.checkout] = one.world.repository
        return found

    def begin(self, node_id: str, following: Mapping[str, str | None]) -> dict[str, Step | SideFailed]:
        """Start a test on each side in ``following``, which maps a side to the test that it will run next.

        Both sides run at once. Returns for each side where it stopped: at the fixture, at the end of the test, or
        because its process ended. If one side failed because of something that the other may hold, both run the test
        again, and draw numbers of their own: both may have drawn the same port, or the same name of a file.
        """
        steps = self._begin(node_id, following)
        if len(steps) == 1 or not any(isinstance(step, Finished) and step.in_use for step in steps.values()):
            return steps
        for label in (label for label, step in steps.items() if isinstance(step, Arrived)):
            steps[label] = self.go_on(label)
        if any(isinstance(step, SideFailed) for step in steps.values()):
            return steps
        return self._begin(node_id, following, own_numbers=True)

    def _begin(
        self, node_id: str, following: Mapping[str, str | None], *, own_numbers: bool = False
    ) -> dict[str, Step | SideFailed]:
        for label, after in following.items():
            self.parties[label].send("run", node_id, after, own_numbers)
        return {label: self._step(label) for label in following}

    def differences(self) -> dict[str, Difference]:
        """Compare what the calls left, in both processes, though one would do.

        A process that has read it is slower afterwards, by 4 to 12% in calls that make many tensors.
        """
        for label, other in (("base", "head"), ("head", "base")):
            self.parties[label].send("differences", self.starts[other].result, self.places)
        with suppress(SideFailed):  # timing it will say so
            self.parties["base"].receive()
        found: dict[str, Difference] = self.parties["head"].receive()
        return found

    def go_on(self, label: str, timed: Measurement | None = None) -> Step | SideFailed:
        """Let a test that waits at the fixture go on, with what its calls took if they were timed."""
        calls = 1 if timed is None else timed.calls_per_burst
        ns = [] if timed is None else [getattr(one, f"{label}_ns_per_call") for one in timed.pairs]
        self.parties[label].send("go_on", [one * calls * 1e-9 for one in ns], calls)
        return self._step(label)

    def _step(self, label: str) -> Step | SideFailed:
        try:
            step: Step = self.parties[label].receive()
        except (SideFailed, CannotDo) as failure:
            return failure if isinstance(failure, SideFailed) else SideFailed(str(failure))
        return step

    def time_calls(self) -> float:
        """Make one call on each side; returns the seconds of both, with what prepares and follows them.

        Raises:
            SideFailed: as ``measure``.

        """
        start_s = time.monotonic()
        for party in (self.parties["base"], self.parties["head"]):
            party.ask("burst", 1)
        return time.monotonic() - start_s

    def measure(self, rule: StoppingRule, budget_s: float) -> Measurement:
        """Time the calls at which both sides wait.

        Raises:
            SideFailed: a call raised, or its process ended.

        """
        threads = self.starts["head"].threads
        return measure_twins(self.parties["base"], self.parties["head"], rule, budget_s, threads)

    def measure_test(self, node_id: str, rule: StoppingRule, budget_s: float, otherwise: str) -> Measurement:
        """Run a test as far as its call, which another pair has reached, and time that.

        Raises:
            SideFailed: a session does not start, or does not get so far, which is said after ``otherwise``; a call
                raised, or its process ended.

        """
        try:
            self.parties.ready()
        except CannotDo as refusal:
            raise SideFailed(f"{otherwise}: {refusal}") from refusal
        for step in self.begin(node_id, {"head": None, "base": None}).values():
            if not isinstance(step, Arrived):
                raise SideFailed(f"{otherwise}: {failure_of(step) or 'it does not call benchmark there'}")
        return self.measure(rule, budget_s)

    @contextmanager
    def again(self, node_id: str) -> Iterator["SessionPair"]:
        """Hold another pair, to be started in the other order, for the tests of one file alone."""
        file = node_id.partition("::")[0]
        name = f"again-{token_hex(4)}"  # so that what a result computes from a path varies from run to run
        starts = {
            label: replace(start, files=(str(start.root / file),), scratch=start.scratch / name, shuffled=True)
            for label, start in self.starts.items()
        }
        with closing(SessionPair(starts, self.order[::-1], self.launch)) as held:
            yield held
        for start in starts.values():  # copies of compiled modules, which would pile up
            shutil.rmtree(start.scratch, ignore_errors=True)

    def close(self) -> None:
        """End both sessions: they tear down what their tests share."""
        self.parties.close()


def finished(step: Step | SideFailed | None) -> Finished:
    """Return the reports of a test that is over; an empty result if its process ended."""
    return step if isinstance(step, Finished) else Finished(())


def failure_of(step: Step | SideFailed) -> str | None:
    """Say how a test failed, if it did."""
    return str(step) if isinstance(step, SideFailed) else error_of(finished(step).reports)
