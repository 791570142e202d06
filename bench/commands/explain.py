"""``python -m bench explain CASE``: what one case executes, base beside head, to find why a gate failed."""

import argparse
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from .. import pytest_benchmark_adapter
from ..plain.arguments import DEFAULT_THREADS, THREADS
from ..plain.errors import CannotDo
from ..plain.execution import Cost, Observed
from ..sources import baseline
from ..sources.target import Target
from ..suite import code
from ..suite.cases import DEVICES, Case
from ..suite.code import Code
from ..suite.forked import starts_of, twins
from ..suite.matrix import ROWS, Rows
from ..suite.side import load
from ..suite.sides import Sides
from ..suite.worker import Worker
from ..timing import environment
from ..twins.party import Local, Party, SideFailed
from . import explain_text
from .explain_text import Observation
from .target_options import asked, declare


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
    with asked(options) as (target, rows), TemporaryDirectory(prefix="attention-gate-") as scratch:
        devices = environment.present_devices()
        case = find(options.case, Local("head", Worker(load(target, devices))), rows)
        codes = {"head": code.of_working_tree(target), "base": _base(options.gate_base, target, Path(scratch))}
        with twins(starts_of(codes, target, devices, options.threads, Path(scratch)), Path(scratch)) as sides:
            seen_base, seen_head, work = observed(sides, case, codes)
    print(explain_text.explain(case.id, seen_base, seen_head, work), end="")


def observed(sides: Sides, case: Case, codes: Mapping[str, Code]) -> tuple[Observation | None, Observation, Cost]:
    """Look at a case on both sides, or the head alone where the base does not support it.

    Raises:
        CannotDo: a side raised.

    """
    path = None if sides.scratch is None else sides.scratch / "workload.pt"
    try:
        given = sides.examiner.ask("pose", case, 0, sides.head.ask("parameters", case), path)
        supported = sides.base is not None and sides.base.ask("supports", case)
        base = _labelled("base", sides.base.ask("observe", given), codes) if sides.base and supported else None
        head = _labelled("head", sides.head.ask("observe", given), codes)
        return base, head, sides.examiner.ask("work")
    except SideFailed as failure:
        raise CannotDo(str(failure)) from failure


def _labelled(label: str, seen: Observed, codes: Mapping[str, Code]) -> Observation:
    return Observation(**vars(seen), label=f"{label}: {codes[label].source.origin}")


def find(case_id: str, head: Party, rows: Rows = ROWS) -> Case:
    """Find a case of any tier by its id.

    Raises:
        CannotDo: there is none, its kernel does not support it, or its device is not here.

    """
    every: dict[Case, str | None] = head.ask("cases", None, DEVICES, rows)
    cases = {case.id: (case, reason) for case, reason in every.items()}
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


def _base(name: str | None, target: Target, scratch: Path) -> Code:
    if name is not None:
        return code.of_name(target, name, scratch)
    stored = baseline.read(pytest_benchmark_adapter.latest_baseline(Path(".benchmarks")))
    return code.of_archive(target, stored.source, scratch)
