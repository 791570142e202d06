"""How a session shares out what may go wrong in a run."""

from math import log1p
from pathlib import Path
from typing import Any

import pytest

from bench import comparison
from bench.judging.policy import Policy
from bench.plain.errors import CannotDo
from bench.session import GateSession
from bench.sessions.opening import Selection
from bench.sources.source import Source
from bench.sources.world import World
from bench.suite.cases import Case
from bench.suite.code import PackageCode

from .test_options import settings

CPU, GPU = (Case.parse(f"sdpa-b1h4t64d32-causal-fp32-{device}-fwd", ()) for device in ("cpu", "cuda"))
SELECTION = Selection(Path(), None, (), ("test_plain.py::test_plain",), frozenset(), (), (), (), {}, Path(), {})


def test_the_host_s_time_of_a_case_on_a_gpu_is_judged_and_counts_as_a_case_of_its_own() -> None:
    session = GateSession(settings(), Source("here", b""), cases=dict.fromkeys([CPU, GPU]), selected=[CPU, GPU])
    on_cpu, on_gpu = session.test(CPU.id), session.test(GPU.id)
    assert on_cpu.host is None
    assert on_gpu.host is not None
    levels = {test.alarm_level for test in (on_cpu, on_gpu, on_gpu.host)}
    assert levels == {Policy.false_alarm / 3}
    assert (on_gpu.threshold, on_gpu.host.threshold) == (log1p(Policy.threshold), log1p(Policy.host_threshold))
    assert on_gpu.replication_level != on_gpu.host.replication_level
    session.selected = [CPU]
    assert session.test(CPU.id).alarm_level == Policy.false_alarm


def test_benchmarks_of_their_own_share_the_level_with_all_times_of_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.session.Session.start", lambda *_: None)
    session = GateSession(settings(), Source("here", b""), cases=dict.fromkeys([CPU, GPU]), selected=[CPU, GPU])
    assert session.compare_others(SELECTION).sharing == 3


@pytest.mark.parametrize("given", [{"gate_base": None, "benchmark_compare": True}, {"shard": "1/2"}])
def test_a_benchmark_of_its_own_needs_a_base_whose_tests_can_run_and_the_whole_run(given: dict[str, Any]) -> None:
    session = GateSession(settings(**given), Source("here", b""))
    with pytest.raises(CannotDo, match=r"^test_plain\.py::test_plain is a benchmark of its own, which is compared by"):
        session.compare_others(SELECTION)


def test_under_another_interpreter_alone_the_base_is_the_head_s_own_code_or_what_is_installed_there() -> None:
    head = PackageCode(Source("working tree", b""), World(Path()))
    config: Any = None  # it is asked for stored baselines alone
    for kernel, origin in (([], "working tree"), (["math:sqrt"], "packages of python")):
        asked = settings(gate_base=None, gate_base_python="python", kernel=kernel)
        found, stored = comparison._base_of_another_interpreter(asked, head, config)
        assert (found.origin, stored) == (origin, None)
