"""Pairs of processes: how many there are, in which order they work, and what one that ends costs."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from bench.judging.policy import Policy
from bench.judging.statistics import PairedTest
from bench.plain.errors import CannotDo
from bench.sources.source import from_directory
from bench.sources.target import ATTENTION
from bench.sources.world import World
from bench.suite.cases import Case, Shape
from bench.suite.code import alone
from bench.suite.forked import starts_of
from bench.suite.pairs import ProcessPairs, process_pairs
from bench.suite.sides import check
from bench.suite.worker import Start, Worker
from bench.suite.workload import build
from bench.twins.between import BURST_PAIRS, MOST_PAIRS
from bench.twins.fork import fork_to_serve
from bench.twins.parties import Parties
from bench.twins.party import SideFailed

REPOSITORY = Path(__file__).parents[2]
ODD_KERNELS = """
import os

def fine(q, k, v, **_):
    return q + 0

def raises(q, k, v, **_):
    raise ValueError("on purpose")

def dies(q, k, v, **_):
    os._exit(7)

KERNELS = {kernel.__name__: kernel for kernel in (fine, raises, dies)}
"""


@dataclass
class Pretender:
    """Stands in for a side in a process: every burst takes what it says, and the shared log keeps the order."""

    label: str
    ns: float
    log: list[str] = field(default_factory=list)
    is_alive: bool = True

    def ask(self, method: str, *_: object) -> Any:
        self.log.append(f"{self.label} {method}")
        return {"take": None, "settle": 1.0, "burst": self.ns, "release": ()}[method]

    def send(self, method: str, *_: object) -> None:
        self.log.append(f"{self.label} {method}")

    def receive(self) -> None:
        self.log.append(f"{self.label} loaded")

    def close(self) -> None: ...


def after(observations: int) -> PairedTest:
    """A test that is certain after so many observations, whatever they are."""

    class After(PairedTest):
        least_pairs = observations

        def is_certain(self, ordered: Sequence[float]) -> bool:
            return len(ordered) >= observations

    return After(0.05, 0.9, 0.9)  # a test at such a level needs a single observation


@pytest.fixture
def pretending(tmp_path: Path) -> Callable[..., tuple[ProcessPairs, list[str]]]:
    """Make pairs, of which the head takes longer by some ratios; with the log of all."""

    def make(*ratios: float) -> tuple[ProcessPairs, list[str]]:
        log: list[str] = []
        starts = {
            label: Start(label, "pretended", World(tmp_path), ATTENTION, ("cpu",), 1, tmp_path)
            for label in ("head", "base")
        }
        pairs = ProcessPairs("python", starts, tmp_path)
        for ratio in ratios:
            sides = {"base": Pretender("base", 1e6, log), "head": Pretender("head", 1e6 * ratio, log)}
            pair = Parties(("base", "head"), cast("Any", sides).__getitem__, "")
            pair.ready()
            pairs.pairs.append(pair)
        log.clear()
        return pairs, log

    return make


def test_the_sides_of_one_pair_after_the_other_take_turns_and_are_asked_in_the_end_whether_they_wrote(
    pretending: Callable[..., tuple[ProcessPairs, list[str]]],
) -> None:
    pairs, log = pretending(1.01, 0.98, 1.2, 9.9)
    measurement = pairs.measure(after(3), budget_s=60)
    assert [p.head_ns_per_call / p.base_ns_per_call for p in measurement.pairs] == pytest.approx([1.01, 0.98, 1.2])
    assert len(pairs.pairs) == 4
    first = log[: len(log) // 3]
    assert first[:4] == ["base take", "head take", "base settle", "head settle"]
    assert first[-2:] == ["base release", "head release"]
    turns = first[4:-2]
    assert len(turns) == 2 + 2 * 2 + 2 * BURST_PAIRS  # untimed, two rounds of warming up, and the pairs
    assert all({a, b} == {"base burst", "head burst"} for a, b in zip(turns[0::2], turns[1::2], strict=True))


def test_no_case_is_given_more_pairs_than_there_may_be(
    pretending: Callable[..., tuple[ProcessPairs, list[str]]],
) -> None:
    pairs, _ = pretending(*[0.8, 1.2] * (MOST_PAIRS // 2))
    assert len(pairs.measure(Policy().test(20), budget_s=60).pairs) == MOST_PAIRS
    (note,) = pairs.notes
    assert note.endswith("no case is given more: give a higher --gate-threshold for what is undecided")


def test_as_many_processes_are_started_at_once_as_there_are_cores_for_and_all_before_anything_is_timed(
    pretending: Callable[..., tuple[ProcessPairs, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, log = pretending()
    monkeypatch.setattr("bench.suite.pairs.spawn", lambda _, label, *__: Pretender(label, 1e6, log))
    monkeypatch.setattr("bench.suite.pairs.available_cores", lambda: (0, 1, 2, 3))
    pairs.start(1)
    assert sorted(log) == ["base load", "base loaded", "head load", "head loaded"]
    del log[:]
    pairs.measure(after(4), budget_s=60)
    both = [label for label in ("base", "head") for _ in range(2)]
    assert sorted(log[:4]) == [f"{label} load" for label in both]
    assert sorted(log[4:8]) == [f"{label} loaded" for label in both]
    assert sorted(log[12:14]) == ["base take", "head take"]  # the fourth pair is loaded, too, before anything is timed


@contextmanager
def real_pairs(base: Path, head: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessPairs]:
    """Hold pairs of processes, which are forked, since another interpreter takes seconds to start."""
    monkeypatch.setattr("bench.suite.pairs.spawn", lambda _, label, *__: fork_to_serve(label, Worker))
    codes = {"head": alone(from_directory(head), scratch), "base": alone(from_directory(base), scratch)}
    with process_pairs(sys.executable, starts_of(codes, ATTENTION, ("cpu",), 1, scratch), scratch) as pairs:
        yield pairs


def test_a_base_that_does_not_load_in_its_process_cannot_be_compared(
    package: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = package(__init__="import no_such_package")
    with pytest.raises(CannotDo) as refused, real_pairs(broken, REPOSITORY, tmp_path, monkeypatch):
        pass
    assert str(refused.value).startswith("the base, directory ")
    assert "(ModuleNotFoundError: No module named 'no_such_package')" in str(refused.value)
    assert str(refused.value).endswith(": choose a base that runs with the packages installed here")


def test_a_case_that_raises_keeps_its_process_and_one_that_crashes_it_costs_its_pair_and_no_later_case(
    package: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = package(__init__=ODD_KERNELS)
    with real_pairs(odd, odd, tmp_path, monkeypatch) as pairs:

        def checked(subject: str) -> list[str]:
            pairs.ready()
            judged = check(pairs, case_of(subject), 0, with_base=True, stored=None)
            return [error.name for error in judged.errors]

        def measured(subject: str) -> int:
            torch.save(build(case_of(subject), {}), tmp_path / "workload.pt")
            return len(pairs.measure(after(1), budget_s=60).pairs)

        with pytest.raises(SideFailed, match="on purpose"):
            checked("raises")
        raised = list(pairs.pairs)
        assert checked("fine") == ["out"]
        assert pairs.pairs == raised
        with pytest.raises(SideFailed, match=r"^head ended in its own process with exit code 7$"):
            checked("dies")
        assert checked("fine") == ["out"]
        with pytest.raises(SideFailed, match=r"ended in its own process with exit code 7$"):
            measured("dies")
        assert measured("fine") == 1
        assert len(pairs.pairs) == 1


def case_of(subject: str) -> Case:
    return Case(subject, False, Shape.parse("b1h2t8d4"), "full", "fp32", "cpu", "fwd")
