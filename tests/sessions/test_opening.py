"""What is asked of the base's own tests, which the head's replace."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.plain.errors import CannotDo
from bench.sessions.meeting import Arrived, Collected, Finished, Own, SessionStart
from bench.sessions.opening import OwnTests
from bench.sources.world import World

ROOT = Path("root")
START = SessionStart("base", World(ROOT), ROOT, ("b",), (), {}, 1, ROOT)
CALLS, ENDS = Arrived(Own(), "int"), Finished(())


class Session:
    """Stands in for a process that runs the base's own tests, and says how far each gets."""

    def __init__(self, gets: dict[str, Sequence[Any]]) -> None:
        self.is_alive, self.asked = True, list[str]()
        self._gets = gets
        self._answers: list[Any] = [Collected(dict.fromkeys(gets, True), selected=frozenset(gets))]

    def send(self, command: str, *arguments: object) -> None:
        self.asked.append(f"{command} {arguments[0]}" if command == "run" else command)
        if command == "run":
            self._answers += self._gets[str(arguments[0])]

    def receive(self) -> Any:
        return self._answers.pop(0)

    def hang_up(self) -> None:
        self.is_alive = False

    def close(self) -> None:
        self.is_alive = False


def test_all_that_is_asked_of_the_base_s_own_tests_is_asked_of_one_session() -> None:
    session = Session({"b::calls": (CALLS, ENDS), "b::ends": (ENDS,), "b::also": (CALLS, ENDS)})
    launched: list[Any] = []

    def launch(start: SessionStart) -> Any:
        launched.append(start)
        return session

    own = OwnTests(START, launch, ((ROOT.resolve() / "b", ""),))
    assert not launched  # nothing has been asked yet
    assert [own.calls(f"b::{name}") for name in ("calls", "ends", "also", "unknown")] == [True, False, True, False]
    assert own.found[0] == {"b::calls", "b::ends", "b::also"}
    assert launched == [START]
    assert session.asked == ["run b::calls", "go_on", "run b::ends", "run b::also", "go_on"]
    own.close()
    assert not session.is_alive


def test_a_base_whose_own_tests_cannot_be_collected_calls_nothing_and_says_why() -> None:
    def launch(_: SessionStart) -> Any:
        raise CannotDo("no such plugin")

    own = OwnTests(START, launch, ((ROOT.resolve(), ""),))
    assert not own.calls("b::calls")
    assert own.found[1] == ("the base's own tests cannot be collected, so a lost one is not MISSING (no such plugin)",)
    assert OwnTests(None).found == (frozenset(), ())
