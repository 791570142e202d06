"""``python -m bench explain CASE``: what one case executes, base beside head, to find why a gate failed."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from .. import pytest_benchmark_adapter
from ..cases import ROWS, Case, Row, matrix
from ..checking import compilation
from ..checking.calls import execute
from ..checking.op_trace import OpTrace
from ..checking.profiling import profiled
from ..plain.arguments import DEFAULT_THREADS, THREADS
from ..plain.errors import CannotDo
from ..plain.execution import Step
from ..sides import baseline, source
from ..sides.repository import top_level
from ..sides.side import Side, base_side, head_side
from ..sides.source import Source
from ..sides.what import What, place_of
from ..sides.work import work_of
from ..sides.workload import Call, Workload, bind, build
from ..timing import environment
from . import explain_text
from .asked import asked, declare
from .explain_text import Observation, OpTime

PROFILED_CALLS = 10


def add_command(commands: Any) -> None:
    """Declare ``explain`` among the commands of the command line."""
    parser = commands.add_parser("explain", help="show what one case executes, base beside head")
    parser.add_argument("case", metavar="CASE", help="its id, as reports show it")
    parser.add_argument("--gate-base", metavar="REV-or-DIR", help="default: the latest stored baseline")
    declare(parser)
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "CPU threads")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run the case on both sides and print what is seen.

    Raises:
        CannotDo: no such case or base, no such device here, or a side raised.

    """
    torch.set_num_threads(options.threads)
    environment.steady_allocator()
    devices = environment.present_devices()
    with asked(options) as (what, rows), ExitStack() as stack:
        head = head_side(what, devices)
        case = find(options.case, head, rows)
        place = place_of(what.names[0])
        base_source = _base(options.gate_base, place, what)
        base = stack.enter_context(base_side(base_source, repository=top_level(place), what=what, devices=devices))
        stack.enter_context(torch.set_grad_enabled(case.backward))
        workload = build(case, head)
        compilation.forget()
        seen_base = observe(workload, base, f"base: {base_source.origin}") if base.supports(case) else None
        seen_head = observe(workload, head, "head: working tree")
    print(explain_text.explain(case.id, seen_base, seen_head, work_of(case, workload.d_feedforward)), end="")


def find(case_id: str, head: Side, rows: Sequence[Row] = ROWS) -> Case:
    """Find a case of any tier by its id.

    Raises:
        CannotDo: there is none, its kernel does not support it, or its device is not here.

    """
    cases = {case.id: (case, reason) for case, reason in _every_case(head, rows).items()}
    if case_id not in cases:
        near = ", ".join(get_close_matches(case_id, cases, n=3))
        hint = f"did you mean {near}?" if near else "pytest bench/ --tier=full --collect-only -q lists them"
        raise CannotDo(f"no case is named {case_id}: {hint}")
    case, reason = cases[case_id]
    if reason is not None:
        raise CannotDo(f"{case_id} cannot run: {reason}")
    present = environment.present_devices()
    if case.device not in present:
        raise CannotDo(f"{case_id} needs {case.device} and torch sees only {', '.join(present)} here")
    return case


def _every_case(head: Side, rows: Sequence[Row]) -> dict[Case, str | None]:
    return matrix(head.kernels, head.modules, None, ("cpu", "cuda"), rows)


def _base(name: str | None, place: Path, what: What) -> Source:
    if name is not None:
        return source.find(place, name, what.names)
    return baseline.read(pytest_benchmark_adapter.latest_baseline(Path(".benchmarks"))).source


def observe(workload: Workload, side: Side, label: str) -> Observation:
    """Run the case on one side: to warm up, for its fingerprint, op by op, and a few times for times.

    Raises:
        CannotDo: it raised.

    """
    try:
        call = bind(workload, side)
        _, seen = execute(call, workload)
        with call.view:
            steps, backward_at = ((), None) if seen.compilation else _steps(call)
            return Observation(label, seen, steps, backward_at, _times(call, workload.case.device))
    except Exception as error:
        raise CannotDo(f"{side.label} raised {type(error).__name__}: {error}") from error


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
