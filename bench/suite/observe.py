"""Looks at one call closely, for people: op by op, with the bytes alive after each, and by a profiler."""

import torch

from ..observing.op_trace import OpTrace
from ..observing.profiling import profiled
from ..plain.execution import Observed, OpTime, Step
from .purity import execute
from .workload import Call, Workload

PROFILED_CALLS = 10


def observe(call: Call, workload: Workload) -> Observed:
    """Make a call to warm up, for its fingerprint, op by op, and a few times for times."""
    _, seen = execute(call, workload)
    steps, backward_at = ((), None) if seen.compilation else _steps(call)
    return Observed(seen, steps, backward_at, _times(call, workload.case.device))


def _steps(call: Call) -> tuple[tuple[Step, ...], int | None]:
    backward_at = None
    trace = OpTrace()
    with trace.watching():
        out = call.forward()
        if call.backward:
            backward_at = len(trace.steps)
            gradients = call.differentiate(out)
            del gradients
    return tuple(trace.steps), backward_at


def _times(call: Call, device: str) -> tuple[OpTime, ...]:
    """Profile some calls; the time of an op is that on the device where it computes."""
    with profiled(cuda=device == "cuda") as profile:
        for _ in range(PROFILED_CALLS):
            call()
        if device == "cuda":
            torch.cuda.synchronize()
    return tuple(
        OpTime(
            event.key.replace("aten::", "aten."),
            event.count // PROFILED_CALLS,
            (event.self_device_time_total if device == "cuda" else event.self_cpu_time_total) / PROFILED_CALLS,
        )
        for event in profile.key_averages()
        if event.count >= PROFILED_CALLS and event.key != "[memory]"
    )
