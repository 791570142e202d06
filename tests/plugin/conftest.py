"""Inner pytest sessions over the real ``bench/``, in this process, with an empty directory and a clock that ticks."""

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.timing.clock import Clock

REPOSITORY = Path(__file__).parents[2]
ONE = "sdpa-b1h4t64d32-full-fp32-cpu-fwd]"  # the quickest case; the bracket keeps -fwdbwd out

Bench = Callable[..., pytest.RunResult]


@dataclass
class Ticking:
    """A clock that is a millisecond later at each reading, and later still where a kernel moves it.

    So the same code is UNCHANGED at the first look that can say so, whatever else the machine does. That real time
    comes to the same is shown by the commands in test_end_to_end.py.
    """

    now_ns: int = 0

    def __call__(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns


@pytest.fixture(autouse=True, scope="session")
def _compiler() -> None:
    """Load torch's compiler before an inner run does: what that loads is forgotten, and cannot be loaded twice."""
    importlib.import_module("torch._inductor.compile_fx")


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def alone() -> None:
    """Ask for this where an inner run is to start its witness, two processes that import torch."""


@pytest.fixture(autouse=True)
def _no_witness(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "alone" not in request.fixturenames:
        monkeypatch.setattr("bench.comparison.witness", lambda *_, **__: nullcontext())


@pytest.fixture
def bench(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, clock: Ticking) -> Bench:
    """Run ``pytest bench/ --tier=smoke`` with more arguments, by default on one case; returns the result."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)  # the outer run's business
    monkeypatch.setattr("bench.timing.clock._host_clock", lambda: Clock(clock, lambda: None))
    # What the machine can do at most is in no verdict, and takes longer to measure than a case.
    monkeypatch.setattr("bench.timing.ceiling.SECONDS", 0)
    monkeypatch.setattr("bench.timing.ceiling.COPY_BYTES", {"cpu": 1 << 20})

    def run(*arguments: str, case: str | None = ONE) -> pytest.RunResult:
        chosen = () if case is None else ("-k", case)
        return pytester.runpytest_inprocess(
            f"--rootdir={REPOSITORY}",
            f"--config-file={REPOSITORY / 'pyproject.toml'}",
            REPOSITORY / "bench",
            "--tier=smoke",
            "--benchmark-max-time=0.01",
            "-p",
            "no:cacheprovider",
            *chosen,
            *arguments,
        )

    return run
