"""Sides in processes of their own: the protocol with a real one, and the order of work with ones that only pretend."""

import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import attention
from bench.cases import Case, Shape
from bench.checking.calls import execute
from bench.judging.policy import Policy
from bench.judging.statistics import PairedTest
from bench.plain.errors import CannotDo
from bench.sides.side import Side
from bench.sides.source import Source, from_directory
from bench.sides.what import ATTENTION
from bench.sides.workload import Workload, bind, build
from bench.timing.processes import BURST_PAIRS, MOST_PAIRS, ProcessPairs, process_pairs
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


def workload_of(subject: str) -> Workload:
    case = Case(subject, False, Shape.parse("b1h2t8d4"), "full", "fp32", "cpu", "fwd")
    return build(case, Side("head", {}, {}))


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Source], Remote]]:
    monkeypatch.chdir(tmp_path)
    python = os.path.relpath(sys.executable)  # as a user may name it
    with ExitStack() as resources:

        def start(source: Source) -> Remote:
            remote = Remote(python, "base", tmp_path)
            resources.callback(remote.close)
            versions, _ = remote.ask("start", "base", source, ATTENTION, 1, [])
            assert versions["torch"] == torch.__version__
            return remote

        yield start


def test_a_side_in_its_own_process_does_the_same_work_on_the_same_tensors(
    remote: Callable[[Source], Remote], tmp_path: Path
) -> None:
    head = Side.of("head", attention)
    workload = build(CASE, head)
    torch.save(workload, tmp_path / "workload.pt")
    source = from_directory(REPOSITORY)
    side = remote(source)
    assert (tmp_path / f"source-{source.sha256}").is_dir()  # where the run's other processes find it
    side.ask("take", tmp_path / "workload.pt")
    saved, seen = side.ask("check")
    (tmp_path / "results.pt").write_bytes(saved)
    results = torch.load(tmp_path / "results.pt", weights_only=True)
    own, own_print = execute(bind(workload, head), workload)
    assert list(results) == ["out", "dq", "dk", "dv"]
    assert all(torch.equal(results[name], own[name]) for name in own)
    assert seen == own_print
    assert side.ask("burst", 3) > 0
    assert side.ask("wrote") is False


def test_what_goes_wrong_in_a_process_is_told_with_the_side_s_name(
    remote: Callable[[Source], Remote], package: Callable[..., Path], tmp_path: Path
) -> None:
    side = remote(from_directory(package(__init__=ODD_KERNELS)))
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
    take("dies")
    for _ in range(2):
        with pytest.raises(SideFailed, match=r"^base ended in its own process with status 7$"):
            side()


def test_a_base_that_does_not_load_in_its_process_cannot_be_compared(package: Callable[..., Path]) -> None:
    broken = from_directory(package(__init__="import no_such_package"))
    with (
        process_pairs(sys.executable, broken, from_directory(REPOSITORY), ATTENTION, threads=1) as pairs,
        pytest.raises(CannotDo) as refused,
    ):
        pairs.start(1)
    assert str(refused.value).startswith("base cannot be loaded: the base, directory ")
    assert "(ModuleNotFoundError: No module named 'no_such_package')" in str(refused.value)
    assert str(refused.value).endswith(": choose a base and an interpreter for it")


def test_processes_that_are_begun_are_not_waited_for_until_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []

    class Slow(Pretender):
        def __init__(self, _: str, label: str, __: Path) -> None:
            super().__init__(label, 1e6, log)

        def send(self, method: str, *_: object) -> None:
            log.append(f"{self.label} {method}")

        def receive(self) -> None:
            log.append(f"{self.label} loaded")

        def close(self) -> None: ...

    monkeypatch.setattr("bench.timing.processes.Remote", Slow)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    source = Source("pretended", b"")
    pairs = ProcessPairs("python", source, source, ATTENTION, 1, tmp_path, ExitStack())
    pairs.start(1)
    pairs.begin(9)  # of which there are cores for two
    assert sorted(log[:4]) == ["base loaded", "base start", "head loaded", "head start"]
    assert sorted(log[4:]) == ["base start"] * 2 + ["head start"] * 2
    del log[:]
    pairs.measure(workload_of("k"), test=after(1), budget_s=60, order=random.Random(0))
    assert log[:4] == ["base loaded", "head loaded"] * 2  # before anything is timed
    assert "base loaded" not in log[4:]


def test_a_case_that_raises_keeps_its_process_and_one_that_crashes_it_costs_its_pair_and_no_later_case(
    package: Callable[..., Path],
) -> None:
    odd = from_directory(package(__init__=ODD_KERNELS))
    crash, fine = workload_of("dies"), workload_of("prints")
    with process_pairs(sys.executable, odd, odd, ATTENTION, threads=1) as pairs:

        def measure(workload: Workload) -> int:
            return len(pairs.measure(workload, test=after(1), budget_s=60, order=random.Random(0)).pairs)

        with pytest.raises(SideFailed, match="on purpose"):
            pairs.check_base(workload_of("raises"))
        raised = list(pairs.pairs)
        pairs.check_base(fine)
        assert pairs.pairs == raised
        with pytest.raises(SideFailed, match=r"^base ended in its own process with status 7$"):
            pairs.check_base(crash)
        results, _ = pairs.check_base(fine)
        assert list(results) == ["out"]
        with pytest.raises(SideFailed, match=r"ended in its own process with status 7$"):
            measure(crash)
        assert measure(fine) == 1
        assert len(pairs.pairs) == 1


def test_the_versions_behind_an_interpreter_are_told() -> None:
    found = interpreter(sys.executable)
    assert found == {"python": ".".join(map(str, sys.version_info[:3])), "torch": torch.__version__}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (None, "cannot be run (No such file or directory): give the path of an interpreter"),
        ("exit 0", "is no Python interpreter: give the path of one that has torch"),
        ("echo 7", "is no Python interpreter"),
        ("echo noise; echo 'attention-gate:[[3, 9, 1], \"2.1\"]'; echo bye", "is Python 3.9.1: give one from 3.11"),
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
    """Stands in for a side in a process: every burst takes what it says, and the shared log keeps the order."""

    label: str
    ns: float
    log: list[str] = field(default_factory=list)
    wrote: bool = False
    is_alive: bool = True

    def __call__(self) -> None:
        self.ask("burst", 1)

    def ask(self, method: str, *arguments: object) -> Any:
        self.log.append(f"{self.label} {method}")
        return {"take": None, "burst": self.ns, "wrote": self.wrote}[method]


def after(observations: int) -> PairedTest:
    """A test that is certain after so many observations, whatever they are."""

    class After(PairedTest):
        def is_certain(self, ordered: Sequence[float]) -> bool:
            return len(ordered) >= observations

    return After(0.05, 0.9, 0.9)  # a test at such a level needs a single observation


@pytest.fixture
def pretending(tmp_path: Path) -> Callable[..., tuple[ProcessPairs, list[str]]]:
    def make(*ratios: float, wrote: bool = False) -> tuple[ProcessPairs, list[str]]:
        log: list[str] = []
        sides = [(Pretender("base", 1e6, log), Pretender("head", 1e6 * ratio, log, wrote)) for ratio in ratios]
        source = Source("pretended", b"")
        pairs = ProcessPairs("python", source, source, ATTENTION, 1, tmp_path, ExitStack())
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


def test_a_timed_burst_follows_an_untimed_call_since_the_other_process_had_the_caches() -> None:
    calls: list[None] = []

    class Counted:
        view = nullcontext()

        def __call__(self) -> None:
            calls.append(None)

    worker = Worker()
    worker._workload = workload_of("k")
    worker._call = cast("Any", Counted())
    worker.burst(3)
    assert len(calls) == 1 + 3
