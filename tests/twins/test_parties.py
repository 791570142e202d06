"""Processes by label: which are started and when, and that one which fails before it is ready is started again."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from bench.plain.errors import CannotDo
from bench.twins.parties import Parties
from bench.twins.party import SideFailed


@dataclass
class Started:
    """A party that writes down what happens to it."""

    label: str
    log: list[str]
    answer: object = None
    is_alive: bool = True

    def receive(self) -> object:
        self.log.append(f"{self.label} is ready")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def hang_up(self) -> None:
        self.log.append(f"{self.label} hung up")

    def close(self) -> None:
        self.log.append(f"{self.label} closed")
        self.is_alive = False


@dataclass
class World:
    """Starts parties, which answer what is said here, else their label."""

    answers: dict[str, object] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def parties(self) -> Parties:
        def launch(label: str) -> Any:
            self.log.append(f"{label} starts")
            return Started(label, self.log, self.answers.get(label, label))

        return Parties(("head", "base"), launch, ", when it was loaded: choose another")


def test_all_are_started_before_any_is_waited_for_and_told_of_the_end_before_any_is_ended() -> None:
    world = World()
    parties = world.parties()
    parties.ready()
    parties.ready()
    assert parties.answers == {"head": "head", "base": "base"}
    parties.close()
    in_turn = [f"{label} {what}" for what in ("starts", "is ready", "hung up", "closed") for label in parties.labels]
    assert world.log == in_turn


def test_one_that_has_ended_is_replaced_and_the_other_left_alone() -> None:
    world = World()
    parties = world.parties()
    parties.ready()
    before: Any = parties["head"]
    ended: Any = parties["base"]
    ended.is_alive = False
    del world.log[:]
    parties.ready()
    assert world.log == ["base closed", "base starts", "base is ready"]
    assert parties.living[0] is before
    assert ended not in parties.living


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (SideFailed("head ended"), "head ended, when it was loaded: choose another"),
        (CannotDo("the head does not import"), "the head does not import"),
    ],
)
def test_one_that_fails_before_it_is_ready_is_started_again_and_the_late_answer_of_the_other_is_taken(
    failure: Exception, said: str
) -> None:
    world = World({"head": failure})
    parties = world.parties()
    with pytest.raises(CannotDo) as refused:
        parties.ready()
    assert str(refused.value) == said
    del world.answers["head"], world.log[:]
    parties.ready()
    assert world.log == ["head closed", "head starts", "head is ready", "base is ready"]
    assert parties.answers == {"head": "head", "base": "base"}
