"""Inner pytest sessions over the real ``bench/``, in this process, with storage in an empty directory."""

from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ONE = "sdpa-b1h4t64d32-full-fp32-cpu-fwd]"  # the quickest case; the bracket keeps -fwdbwd out

Bench = Callable[..., pytest.RunResult]


@pytest.fixture
def bench(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Run ``pytest bench/ --tier=smoke`` with more arguments, by default on one case; returns the result."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)  # the outer run's business

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
