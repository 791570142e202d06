"""Sides in processes of their own: the protocol with a real one, and the order of work with ones that only pretend."""

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import attention
from bench.cases import Case, Shape
from bench.checking.fingerprint import execute
from bench.judging.statistics import PairedTest
from bench.judging.verdict import Policy
from bench.plain.errors import CannotDo
from bench.plain.execution import Fingerprint, Pass
from bench.sides.side import Side
from bench.sides.source import Source, from_directory
from bench.sides.workload import Workload, bind, build
from bench.timing.processes import BURST_PAIRS, MOST_PAIRS, ProcessPairs
from bench.timing.remote import Remote, SideFailed, interpreter
from bench.timing.worker import Worker

REPOSITORY = Path(__file__).parents[2]
CASE = Case("sdpa", False, Shape.parse("b1h2t8d4"), "causal", "fp32", "cpu", "fwdbwd")

ODD_KERNELS = """
import os
from types import SimpleNamespace

def prints(q, k, v, **_):
    print("not a reply")
    return q + 0

def raises(q, k, v, **_):
    raise ValueError("on purpose")

def leaves(q, k, v, **_):
    raise SystemExit(3)

def writes(q, k, v, **_):
    q.data.add_(1)
    return q + 0

def dies(q, k, v, **_):
    os._exit(7)

KERNELS = {kernel.__name__: kernel for kernel in (prints, raises, leaves, writes, dies)}
"""


def _no_results() -> bytes:
    buffer = BytesIO()
    torch.save({}, buffer)
    return buffer.getvalue()


NO_RESULTS, NO_PRINT = _no_results(), Fingerprint(Pass({}, 0, 0))


def workload_of(subject: str) -> Workload:
    case = Case(subject, False, Shape.parse("b1h2t8d4"), "full", "fp32", "cpu", "fwd")
    return build(case, Side("head", {}, {}))


@pytest.fixture(scope="module")
def started() -> Iterator[list[Remote]]:
    remotes: list[Remote] = []
    yield remotes
    for remote in remotes:
        remote.close()


@pytest.fixture
def side(started: list[Remote], tmp_path: Path) -> Remote:
    """The process that the tests here share, since each takes seconds to import torch; a new one after it ended."""
    if not started or not started[-1].is_alive:
        python = os.path.relpath(sys.executable)  # as a user may name it
        started.append(Remote(python, "base", tmp_path))
    return started[-1]


def load(side: Remote, source: Source) -> None:
    started = side.ask("start", "base", source, 1, [])
    assert started["torch"] == torch.__version__


def test_a_side_in_its_own_process_does_the_same_work_on_the_same_tensors(side: Remote, tmp_path: Path) -> None:
    head = Side.of("head", attention)
    workload = build(CASE, head)
    torch.save(workload, tmp_path / "workload.pt")
    load(side, from_directory(REPOSITORY))
    side.ask("take", tmp_path / "workload.pt")
    saved, seen = side.ask("check")
    (tmp_path / "results.pt").write_bytes(saved)
    results = torch.load(tmp_path / "results.pt", weights_only=True)
    own, own_print = execute(bind(workload, head), "cpu")
    assert list(results) == ["out", "dq", "dk", "dv"]
    assert all(torch.equal(results[name], own[name]) for name in own)
    assert seen == own_print
    assert side.ask("burst", 3) > 0
    assert side.ask("wrote") is False


def test_a_base_that_does_not_load_in_its_process_is_named(side: Remote, package: Callable[..., Path]) -> None:
    with pytest.raises(SideFailed) as refused:
        load(side, from_directory(package(__init__="import no_such_package")))
    assert str(refused.value).startswith("base cannot be loaded: the base, directory ")
    assert "(ModuleNotFoundError: No module named 'no_such_package')" in str(refused.value)


def test_what_goes_wrong_in_a_process_is_told_with_the_side_s_name_and_only_an_end_ends_it(
    side: Remote, package: Callable[..., Path], tmp_path: Path
) -> None:
    load(side, from_directory(package(__init__=ODD_KERNELS)))
    path = tmp_path / "workload.pt"

    def take(subject: str) -> None:
        torch.save(workload_of(subject), path)
        side.ask("take", path)

    take("prints")
    assert side.ask("burst", 2) > 0
    take("raises")
    with pytest.raises(SideFailed, match=r"^base raised ValueError: on purpose$"):
        side()
    take("leaves")
    with pytest.raises(SideFailed, match=r"^base raised SystemExit: 3$"):
        side()
    take("writes")
    side()
    assert side.ask("wrote") is True
    assert side.is_alive
    take("dies")
    for _ in range(2):
        with pytest.raises(SideFailed, match=r"^base ended in its own process with status 7$"):
            side()
    assert not side.is_alive


def test_the_versions_behind_an_interpreter_are_told(tmp_path: Path) -> None:
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\necho '[[3, 12, 1], \"2.6.0+cpu\"]'\n")
    path.chmod(0o755)
    assert interpreter(str(path)) == {"python": "3.12.1", "torch": "2.6.0+cpu"}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (None, "cannot be run (No such file or directory): give the path of an interpreter"),
        ("exit 0", "is no Python interpreter: give the path of one that has torch"),
        ("echo 7", "is no Python interpreter"),
        ("echo '[[3, 9, 1], \"2.1\"]'", "is Python 3.9.1: give one from 3.11"),
        (
            "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1",
            "cannot import torch (ModuleNotFoundError: No module named 'torch'): give a Python interpreter that has ",
        ),
        ("exit 3", "cannot import torch (it said nothing)"),
    ],
)
def test_what_is_no_interpreter_with_torch_is_one_sentence(tmp_path: Path, script: str | None, expected: str) -> None:
    path = tmp_path / "python"
    if script is not None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    with pytest.raises(CannotDo) as refused:
        interpreter(str(path))
    assert str(refused.value).startswith(f"--gate-base-python={path} ")
    assert expected in str(refused.value)


@dataclass
class Pretender:
    """Stands in for a side in a process: every burst takes what it says, and the shared log keeps the order.

    ``fails`` is what its next command fails with; one that ended has no next.
    """

    label: str
    ns: float
    log: list[str] = field(default_factory=list)
    wrote: bool = False
    is_alive: bool = True
    fails: str | None = None

    def __call__(self) -> None:
        self.ask("burst", 1)

    def ask(self, method: str, *arguments: object) -> Any:
        self.log.append(f"{self.label} {method}")
        self.receive()
        return {"take": None, "burst": self.ns, "wrote": self.wrote, "check": (NO_RESULTS, NO_PRINT)}[method]

    def receive(self) -> None:
        failure, self.fails = self.fails, None
        if failure is not None or not self.is_alive:
            raise SideFailed(f"{self.label} {failure or 'ended'}")

    def close(self) -> None:
        self.log.append(f"{self.label} close")


def after(observations: int) -> PairedTest:
    """A test that is certain after so many observations, whatever they are."""
    return PairedTest(0.05, 0.5, 0.5, bound=lambda n, _: 1 if n >= observations else None)


@pytest.fixture
def pretending(tmp_path: Path) -> Callable[..., tuple[ProcessPairs, list[str]]]:
    def make(*ratios: float, wrote: bool = False) -> tuple[ProcessPairs, list[str]]:
        log: list[str] = []
        sides = [(Pretender("base", 1e6, log), Pretender("head", 1e6 * ratio, log, wrote)) for ratio in ratios]
        source = Source("pretended", b"")
        pairs = ProcessPairs("python", source, source, 1, tmp_path, ExitStack())
        pairs.pairs = cast("list[tuple[Remote, Remote]]", sides)
        return pairs, log

    return make


def test_each_pair_of_processes_is_one_pair_of_the_measurement(
    pretending: Callable[..., tuple[ProcessPairs, list[str]]],
) -> None:
    pairs, _ = pretending(1.01, 0.98, 1.2, 9.9)
    measurement = pairs.measure(workload_of("k"), test=after(3), budget_s=60, order=random.Random(0))
    assert [p.head_ns_per_call / p.base_ns_per_call for p in measurement.pairs] == pytest.approx([1.01, 0.98, 1.2])
    assert len(pairs.pairs) == 4


def test_the_sides_take_turns_and_are_asked_in_the_end_whether_they_wrote(
    pretending: Callable[..., tuple[ProcessPairs, list[str]]],
) -> None:
    pairs, log = pretending(1.0)
    pairs.measure(workload_of("k"), test=after(1), budget_s=60, order=random.Random(0))
    assert log[:2] == ["base take", "head take"]
    assert log[-2:] == ["base wrote", "head wrote"]
    turns = log[2:-2]
    assert len(turns) == 2 + 2 * 2 + 2 * BURST_PAIRS  # untimed, two rounds of warming up, and the pairs
    assert all({a, b} == {"base burst", "head burst"} for a, b in zip(turns[0::2], turns[1::2], strict=True))


def test_measuring_ends_with_the_budget_and_at_the_latest_with_the_last_pair(
    pretending: Callable[..., tuple[ProcessPairs, list[str]]],
) -> None:
    pairs, _ = pretending(*[0.8, 1.2] * (MOST_PAIRS // 2))
    never = Policy().test(20)
    assert len(pairs.measure(workload_of("k"), test=never, budget_s=0, order=random.Random(0)).pairs) == 1
    assert len(pairs.measure(workload_of("k"), test=never, budget_s=60, order=random.Random(0)).pairs) == MOST_PAIRS
    (note,) = pairs.notes
    assert note.endswith("no case is given more: give a higher --gate-threshold for what is undecided")


def test_a_side_that_wrote_to_its_inputs_is_named(
    pretending: Callable[..., tuple[ProcessPairs, list[str]]],
) -> None:
    pairs, _ = pretending(1.0, wrote=True)
    with pytest.raises(SideFailed, match=r"^head wrote to its inputs$"):
        pairs.measure(workload_of("k"), test=after(1), budget_s=60, order=random.Random(0))


@pytest.fixture
def starting(pretending: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[ProcessPairs, list[str]]:
    """No pair yet, and a pretended one whenever one is started."""
    pairs, log = pretending()

    def start(_: ProcessPairs, number: int) -> Any:
        log.append(f"start {number}")
        return Pretender("base", 1e6, log), Pretender("head", 1e6, log)

    monkeypatch.setattr(ProcessPairs, "_pair", start)
    return pairs, log


def test_a_case_that_crashes_a_process_costs_its_pair_and_no_later_case(
    starting: tuple[ProcessPairs, list[str]],
) -> None:
    pairs, log = starting

    def measure() -> int:
        return len(pairs.measure(workload_of("k"), test=after(1), budget_s=60, order=random.Random(0)).pairs)

    assert pairs.check_base(workload_of("k")) == ({}, NO_PRINT)
    first = cast("Any", pairs.pairs[0])
    first[0].is_alive = False
    with pytest.raises(SideFailed, match="base ended"):
        first[0].ask("check")
    assert pairs.check_base(workload_of("k")) == ({}, NO_PRINT)
    assert log.count("base close") == log.count("head close") == 1
    second = cast("Any", pairs.pairs[0])
    second[1].is_alive = False
    assert measure() == 1
    assert [line for line in log if line.startswith("start")] == ["start 0", "start 1", "start 2"]
    assert len(pairs.pairs) == 1


def test_a_side_that_raises_keeps_its_process(starting: tuple[ProcessPairs, list[str]]) -> None:
    pairs, _ = starting
    pairs.start(1)
    raised = list(pairs.pairs)
    cast("Any", raised[0])[0].fails = "raised ValueError: on purpose"
    with pytest.raises(SideFailed, match="on purpose"):
        pairs.check_base(workload_of("k"))
    pairs.check_base(workload_of("k"))
    assert pairs.pairs == raised


def test_a_side_that_does_not_load_cannot_be_compared(
    starting: tuple[ProcessPairs, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Pretender("base", 1e6, fails="cannot be loaded: it is broken"), Pretender("head", 1e6)
    monkeypatch.setattr(ProcessPairs, "_pair", lambda *_: broken)
    with pytest.raises(CannotDo) as refused:
        starting[0].start(1)
    assert str(refused.value) == "base cannot be loaded: it is broken: choose a base and an interpreter for it"


def test_a_timed_burst_follows_an_untimed_call_since_the_other_process_had_the_caches() -> None:
    calls: list[None] = []
    worker = Worker()
    worker._workload = workload_of("k")
    worker._call = cast("Any", lambda: calls.append(None))
    worker.burst(3)
    assert len(calls) == 1 + 3
