"""``python -m bench explain CASE``: what one case executes, base beside head, to find why a gate failed."""

import argparse
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from .. import pytest_benchmark_adapter
from ..plain.arguments import DEFAULT_THREADS, THREADS
from ..plain.errors import CannotDo
from ..plain.execution import Cost, Observed
from ..sources import baseline
from ..sources.target import Target
from ..suite import code
from ..suite.cases import DEVICES, Case
from ..suite.code import PackageCode
from ..suite.forked import LayOut, opened
from ..suite.matrix import ROWS, Rows
from ..suite.side import load
from ..suite.sides import Sides
from ..suite.worker import Worker
from ..timing import environment
from ..twins.party import Local, Party, SideFailed
from . import explain_text
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
    environment.hold_still(options.threads)
    with asked(options) as (target, rows, _):
        devices = environment.present_devices()
        case = find(options.case, Local("head", Worker(load(target, devices))), rows)
        codes: dict[str, LayOut] = {
            "head": lambda _: code.of_working_tree(target),
            "base": partial(base_of, options.gate_base, target),
        }
        with opened(codes, target, devices, options.threads) as (sides, laid_out):
            seen, work = observed(sides, case)
            origins = {label: one.source.origin for label, one in laid_out.items()}
    print(explain_text.explain(case.id, origins, seen, work), end="")


def observed(sides: Sides, case: Case) -> tuple[dict[str, Observed], Cost]:
    """Look at a case on both sides, or on the head alone where the base does not support it.

    Raises:
        CannotDo: a side raised.

    """
    path = None if sides.scratch is None else sides.scratch / "workload.pt"
    try:
        given = sides.examiner.ask("pose", case, 0, sides.head.ask("parameters", case), path)
        seen = {}
        if sides.base is not None and sides.base.ask("supports", case):
            seen["base"] = sides.base.ask("observe", given)
        seen["head"] = sides.head.ask("observe", given)
        return seen, sides.examiner.ask("work")
    except SideFailed as failure:
        raise CannotDo(str(failure)) from failure


def find(case_id: str, head: Party, rows: Rows = ROWS) -> Case:
    """Find a case of any tier by its id.

    Raises:
        CannotDo: there is none, its kernel does not support it, or its device is not here.

    """
    every: dict[Case, str | None] = head.ask("cases", None, DEVICES, rows)
    cases = {case.id: (case, reason) for case, reason in every.items()}
    if case_id not in cases:
        near = ", ".join(get_close_matches(case_id, cases, n=3))
        hint = f"did you mean {near}?" if near else f"give an id such as {min(cases, default='none')}"
        raise CannotDo(f"no case is named {case_id}: {hint}")
    case, reason = cases[case_id]
    if reason is not None:
        raise CannotDo(f"{case_id} cannot run: {reason}")
    present = environment.present_devices()
    if case.device not in present:
        raise CannotDo(f"{case_id} needs {case.device} and torch sees only {', '.join(present)} here")
    return case


def base_of(name: str | None, target: Target, scratch: Path) -> PackageCode:
    """Return the code of the base that was asked for, or else of the latest stored baseline, laid out in ``scratch``.

    Raises:
        CannotDo: it cannot be had.

    """
    if name is not None:
        return code.of_name(target, name, scratch)
    stored = baseline.read(pytest_benchmark_adapter.latest_baseline(Path(".benchmarks")))
    return code.of_archive(target, stored.source, scratch)
