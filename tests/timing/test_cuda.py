"""CUDA: the order of calls and what is counted, on a fake device with a queue; the real thing where there is one.

Over 300 lines: all of it needs the fake device.
"""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._C._autograd import DeviceType

import attention
from attention.registry import Capabilities, Kernel
from bench.judging.policy import Policy
from bench.judging.replication import Replications
from bench.judging.verdict import CaseResult, Verdict
from bench.observing.profiling import launched
from bench.plain.evidence import Measurement
from bench.sources.source import Source
from bench.suite.base import Base
from bench.suite.cases import Case, Shape
from bench.suite.gate import Gate
from bench.suite.matrix import matrix
from bench.suite.side import Side
from bench.suite.sides import in_process
from bench.suite.worker import Worker
from bench.suite.workload import build
from bench.timing import cuda, environment
from bench.timing.clock import PATIENCE_NS, RECOVERY_S, RETAKES, Clock, CudaClock, LaunchClock, Stopwatch
from bench.timing.measure import BURST_NS, burst_of, measure

from .conftest import StopAfter

FLUSH_NS = 100_000


SOURCE = Source("here", b"")  # of a base that is here already


def timed(base: Callable[[], None], head: Callable[[], None], clock: Stopwatch, *, pairs: int) -> Measurement:
    """Take so many pairs of two calls, by one clock."""
    sides = (burst_of(call, clock) for call in (base, head))
    return measure(*sides, rule=StopAfter(pairs), budget_s=9, order=random.Random(0), resolution_ns=clock.resolution_ns)


@dataclass
class FakeDevice:
    """A device that gets through its queue only when it is waited for, and writes down what it was asked."""

    now_ns: int = 0
    done_ns: int = 0  # how far the queue has been waited for
    log: list[str] = field(default_factory=list)
    shares: list[float | None] = field(default_factory=list)  # what the clock shows, one reading after another

    def launch(self, name: str, ns: int) -> Callable[[], None]:
        def call() -> None:
            self.log.append(name)
            self.now_ns += ns

        return call

    def synchronize(self) -> None:
        self.log.append("synchronize")
        self.done_ns = self.now_ns

    def flush(self) -> None:
        self.log.append("flush")
        self.now_ns += FLUSH_NS

    def event(self) -> "FakeEvent":
        return FakeEvent(self)

    def clock_share(self) -> float | None:
        return self.shares.pop(0) if self.shares else 1.0


@dataclass
class FakeEvent:
    device: FakeDevice
    at_ns: int | None = None

    def record(self) -> None:
        self.device.log.append("event")
        self.at_ns = self.device.now_ns

    def elapsed_time(self, end_event: Any) -> float:
        assert self.at_ns is not None
        assert end_event.at_ns <= self.device.done_ns, "read before the device was waited for"
        return float(end_event.at_ns - self.at_ns) * 1e-6


def test_each_call_has_a_pair_of_events_and_a_cold_cache_and_a_burst_is_waited_for_once_at_its_end() -> None:
    device = FakeDevice()
    assert CudaClock(device).burst(device.launch("call", 7_000), 3) == pytest.approx(7_000)
    assert device.log == ["synchronize", *["flush", "event", "call", "event"] * 3, "synchronize"]


def test_warming_up_is_waited_for_before_the_first_event() -> None:
    device = FakeDevice()
    base, head = device.launch("base", BURST_NS), device.launch("head", 2 * BURST_NS)
    result = timed(base, head, CudaClock(device), pairs=2)
    assert device.log[:6] == ["synchronize", "flush", "event", "base", "event", "synchronize"]
    assert {(p.base_ns_per_call, p.head_ns_per_call) for p in result.pairs} == {(BURST_NS, 2 * BURST_NS)}


@dataclass
class FakeHost:
    """A host whose calls take time of its own; waiting for the device takes the device's."""

    device: FakeDevice = field(default_factory=FakeDevice)
    own_ns: int = 0

    def read_ns(self) -> int:
        return self.own_ns + self.device.done_ns

    def call(self, work_ns: int, launch_ns: int) -> Callable[[], None]:
        work = self.device.launch("call", work_ns)

        def call() -> None:
            work()
            self.own_ns += launch_ns

        return call


def test_the_host_s_time_is_that_of_a_call_which_finds_an_empty_queue() -> None:
    host = FakeHost()
    clock = LaunchClock(CudaClock(host.device, now_ns=host.read_ns))
    assert clock.burst(host.call(100_000, 9_000), 3) == 9_000
    assert host.device.log == [*["synchronize", "call"] * 3, "synchronize"]
    assert clock.notes == ()


def test_a_burst_of_the_host_s_time_does_not_wait_for_many_long_calls() -> None:
    host = FakeHost()
    clock = LaunchClock(CudaClock(host.device, now_ns=host.read_ns))
    assert clock.burst(host.call(PATIENCE_NS // 2 + 1, 9_000), 50) == 9_000
    assert host.device.log.count("call") == 3  # the third is made before the second has been waited for


def test_a_burst_taken_while_the_clock_was_low_is_taken_again_after_a_pause() -> None:
    device, pauses = FakeDevice(shares=[0.74, 0.5, 0.75]), list[float]()
    clock = CudaClock(device, sleep=pauses.append)
    clock.burst(device.launch("call", 7_000), 1)
    assert device.log.count("call") == 3
    assert pauses == [RECOVERY_S] * 2
    device.shares = [1.0]
    assert clock.notes == (
        "the GPU's clock fell below 75% of its default: 2 bursts taken again and 0 kept all the same: "
        "let it cool, or raise its power limit",
    )


def test_a_clock_that_stays_low_does_not_hold_the_run_for_ever() -> None:
    device = FakeDevice(shares=[0.5] * 100)
    clock = CudaClock(device, sleep=lambda _: None)
    clock.burst(device.launch("call", 7_000), 1)
    assert device.log.count("call") == RETAKES + 1
    assert "10 bursts taken again and 1 kept all the same" in clock.notes[0]


def test_where_nothing_tells_the_clock_no_burst_is_taken_again_and_the_run_says_so() -> None:
    device = FakeDevice(shares=[None] * 2)
    clock = CudaClock(device)
    clock.burst(device.launch("call", 7_000), 1)
    assert device.log.count("call") == 1
    assert clock.notes == ("nothing watched whether the GPU was throttled: pip install nvidia-ml-py",)


@dataclass
class FakeGpu:
    """Sides whose calls take the time of a fake host and of a fake device, each with some noise."""

    host: FakeHost = field(default_factory=FakeHost)
    noise: random.Random = field(default_factory=lambda: random.Random(0))

    def side(self, label: str, *, work: float, launch: float) -> Side:
        def kernel(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
            self.host.device.now_ns += int(work * BURST_NS * self.noise.uniform(0.99, 1.01))
            self.host.own_ns += int(launch * 20_000 * self.noise.uniform(0.98, 1.02))
            return attention.KERNELS["masked"](q, k, v, **rest)

        return Side(label, {"k": Kernel("k", kernel, Capabilities())}, {})

    def compare(self, *, work: float, launch: float, policy: Policy, budget_s: float = 5.0) -> CaseResult:
        clock = CudaClock(self.host.device, now_ns=self.host.read_ns)
        head, base = self.side("head", work=work, launch=launch), self.side("base", work=1.0, launch=1.0)
        sides = in_process(head, base, clock_of=lambda _: clock, now_ns=clock.now_ns)
        case = Case("k", False, Shape.parse("b1h2t8d4"), "full", "fp32", "cpu", "fwd")
        test = policy.test(100, replications=Replications(policy.false_alarm), host=True)
        return Gate(sides, Base(SOURCE)).compare(case, test, budget_s)


@pytest.mark.parametrize(
    ("work", "launch", "verdict", "of_host"),
    [
        (1.0, 1.0, Verdict.UNCHANGED, Verdict.UNCHANGED),
        (1.08, 1.0, Verdict.REGRESSED, Verdict.UNCHANGED),
        (1.0, 1.24, Verdict.REGRESSED, Verdict.REGRESSED),
        (1.0, 1.04, Verdict.UNCHANGED, Verdict.UNCHANGED),  # below half of the host's threshold
        (1.0, 0.7, Verdict.UNCHANGED, Verdict.FASTER),
        (0.7, 1.0, Verdict.FASTER, Verdict.UNCHANGED),
        (0.7, 1.24, Verdict.REGRESSED, Verdict.REGRESSED),
    ],
)
def test_device_and_host_of_a_cuda_case_are_judged_by_the_same_rule_each_with_its_threshold(
    work: float, launch: float, verdict: Verdict, of_host: Verdict
) -> None:
    result = FakeGpu().compare(work=work, launch=launch, policy=Policy())
    assert result.verdict is verdict
    assert result.host is not None
    assert result.host.verdict is of_host
    assert result.ratio == pytest.approx(work, rel=0.01)
    assert result.host.ratio == pytest.approx(launch, rel=0.02)
    assert result.host.base_ns == pytest.approx(20_000, rel=0.02)
    slower = [reason for reason in result.reasons if reason.startswith("host: ") and "slower" in reason]
    assert bool(slower) is (of_host is Verdict.REGRESSED)


def test_the_host_has_a_threshold_of_its_own() -> None:
    result = FakeGpu().compare(work=1.0, launch=1.24, policy=Policy(host_threshold=0.6))
    assert (result.verdict, result.host and result.host.verdict) == (Verdict.UNCHANGED, Verdict.UNCHANGED)


def test_a_case_whose_host_s_time_stays_undecided_is_inconclusive() -> None:
    result = FakeGpu().compare(work=1.0, launch=1.09, policy=Policy(), budget_s=0.03)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert any(reason.startswith("host: undecided") for reason in result.reasons)


def test_what_is_timed_is_the_replay_of_a_graph_where_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    device, captured = FakeDevice(), list[Any]()

    def graphed(call: Callable[[], None]) -> Callable[[], None]:
        captured.append(call)
        return device.launch("replay", 2 * BURST_NS)

    monkeypatch.setattr("bench.suite.worker.graphed", graphed)
    case = Case("masked", False, Shape.parse("b1h2t8d4"), "full", "fp32", "cpu", "fwd")
    worker = Worker(Side.of("head", attention), lambda _: CudaClock(device))
    worker._graphs = True
    worker.take(build(case, {}))
    worker.settle(())
    assert worker.burst(3) == 2 * BURST_NS
    assert captured == [worker.own_call()]


def test_a_call_is_captured_after_warming_up_on_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    @contextmanager
    def inside(name: str) -> Iterator[None]:
        log.append(f"{name} begins")
        yield
        log.append(f"{name} ends")

    def stream(name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, wait_stream=lambda other: log.append(f"{name} waits for {other.name}"))

    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream("side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", lambda of: inside(of.name))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: log.append("replay")))
    monkeypatch.setattr(torch.cuda, "graph", lambda _: inside("capture"))
    cuda.graphed(lambda: log.append("call"))()
    warm = ["side waits for main", "side begins", *["call"] * cuda.GRAPH_WARMUPS, "side ends", "main waits for side"]
    assert log == [*warm, "capture begins", "call", "capture ends", "replay"]


@pytest.mark.cuda
def test_a_replayed_graph_gives_what_the_call_gives_on_the_contents_of_then() -> None:
    x, out = torch.randn(64, 64, device="cuda"), torch.empty(64, 64, device="cuda")
    replay = cuda.graphed(lambda: torch.mm(x, x, out=out))
    x.fill_(2.0)
    replay()
    torch.testing.assert_close(out, x @ x)


@pytest.mark.parametrize(("l2_bytes", "flushed"), [(50 * 2**20, 100 * 2**20), (0, 256 * 2**20)])
def test_twice_the_l2_cache_is_overwritten(monkeypatch: pytest.MonkeyPatch, l2_bytes: int, flushed: int) -> None:
    properties = SimpleNamespace(L2_cache_size=l2_bytes)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: properties)
    assert cuda.flush_bytes() == flushed


class FakeNvml:
    """Stands in for nvidia-ml-py."""

    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        pass

    def __init__(self, *failing: str) -> None:
        self.failing = failing

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers = {"nvmlDeviceGetClockInfo": 990, "nvmlDeviceGetDefaultApplicationsClock": 1320}
        answers["nvmlDeviceGetMaxClockInfo"] = 1980

        def ask(*_: Any) -> Any:
            if name in self.failing:
                raise self.NVMLError(name)
            return answers.get(name, "handle")

        return ask


@pytest.mark.parametrize(
    ("nvml", "share"),
    [
        (FakeNvml(), 0.75),
        (FakeNvml("nvmlDeviceGetDefaultApplicationsClock"), 0.5),
        (FakeNvml("nvmlDeviceGetHandleByUUID"), None),
        (FakeNvml("nvmlInit"), None),
        (None, None),
    ],
)
def test_the_clock_is_read_as_a_share_of_its_default_where_the_driver_tells(
    monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml | None, share: float | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # None: cannot be imported
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: SimpleNamespace(uuid="1-2"))
    assert cuda.sm_clock_share()() == share


def test_launches_are_what_ran_on_the_device_by_name_and_no_ranges_that_somebody_marked() -> None:
    def event(name: str, device_type: DeviceType, *, marked: bool = False) -> SimpleNamespace:
        return SimpleNamespace(name=name, device_type=device_type, is_user_annotation=marked)

    events = [
        event("aten::bmm", DeviceType.CPU),
        event("gemm<float>", DeviceType.CUDA),
        event("softmax", DeviceType.CUDA),
        event("gemm<float>", DeviceType.CUDA),
        event("a step", DeviceType.CUDA, marked=True),
    ]
    assert launched(events) == {"gemm<float>": 2, "softmax": 1}


@pytest.mark.cuda
def test_launches_of_a_call_on_cuda_are_its_kernels_forward_and_backward() -> None:
    gate, counts = Gate(in_process(Side.of("head", attention))), []
    for direction in ("fwd", "fwdbwd"):
        case = Case("manual", False, Shape.parse("b1h2t8d4"), "full", "fp32", "cuda", direction)
        found = gate.check(case).head_fingerprint
        assert found is not None
        assert found.launches
        counts.append(sum(found.launches.values()))
    assert counts[0] < counts[1]


def test_a_dtype_that_the_device_lacks_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    head = Side.of("head", attention)
    case = Case("sdpa", False, Shape.parse("b1h2t8d4"), "full", "bf16", "cuda", "fwd")
    result = Gate(in_process(head, head), Base(SOURCE)).compare(case, Policy().test(100), budget_s=1.0)
    assert result.verdict is Verdict.SKIPPED
    assert result.reasons == ("bf16 needs compute capability 8.0, and Tesla T4 has 7.5",)
    assert environment.lacks("cpu", torch.bfloat16) is None
    assert environment.lacks("cuda", torch.float16) is None


def test_memory_on_cuda_is_the_device_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (123, 456))
    assert environment.available_bytes("cuda") == 123


def test_cuda_cases_appear_only_where_there_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert environment.present_devices() == ("cpu", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert environment.present_devices() == ("cpu",)


@pytest.mark.cuda
def test_every_kernel_is_inside_its_budget_on_cuda() -> None:
    head = Side.of("head", attention)
    for case, unsupported in matrix(head.kernels, head.modules, "smoke", ("cuda",)).items():
        if unsupported is None:
            errors = Gate(in_process(head)).check(case).errors
            assert [c for e in errors for c in e.complaints] == [], case.id


@pytest.mark.cuda
def test_unchanged_code_is_unchanged_on_cuda() -> None:
    gate = Gate(in_process(Side.of("head", attention), Side.of("base", attention)), Base(SOURCE))
    for shape in ("b1h8t512d64", "b4h16t4096d128", "b32h32kv8t1k4096d128"):
        case = Case("sdpa", False, Shape.parse(shape), "causal", "bf16", "cuda", "fwd")
        result = gate.compare(case, Policy().test(100, host=True), budget_s=10)
        assert result.verdict is Verdict.UNCHANGED, result.reasons
        assert result.host is not None
        assert result.host.verdict is Verdict.UNCHANGED


@pytest.mark.cuda
def test_twice_the_work_takes_about_twice_as_long_by_the_device_s_events() -> None:
    clock, x = Clock.of("cuda"), torch.randn(4096, 4096, device="cuda")
    once = min(clock.burst(lambda: x @ x, 5) for _ in range(5))
    twice = min(clock.burst(lambda: x @ x @ x, 5) for _ in range(5))
    assert twice / once == pytest.approx(2.0, rel=0.2)
