"""``python -m bench record PATH``: the noise of unchanged code on this machine, in several pairs of twins."""

import argparse
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..judging.policy import Policy
from ..judging.run import Run
from ..judging.verdict import CaseResult, Verdict
from ..plain.arguments import DEFAULT_THREADS, SECONDS, THREADS
from ..plain.evidence import Evidence, Measurement
from ..plain.files import check_writable, write_atomically
from ..report.pairs import as_pairs
from ..suite.base import Base
from ..suite.cases import DEVICES
from ..suite.gate import Gate
from ..suite.matrix import TIERS
from ..timing import environment
from ..timing.machine import steady_allocator
from ..timing.measure import Never
from .same_code import same_code_twice

TWINS = 5  # pairs of them: the gate decides by two of three, and which three a replay takes is drawn


def add_command(commands: Any) -> None:
    """Declare ``record`` among the commands of the command line."""
    parser = commands.add_parser("record", help="record the noise of unchanged code, to be replayed")
    parser.add_argument("path", type=Path, help="where to")
    parser.add_argument("--tier", choices=TIERS, default="smoke", help="cases (default %(default)s)")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where (default %(default)s)")
    SECONDS.declare(parser, "--time-limit", "300", "of measuring, for all cases together")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "CPU threads")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure every case of the tier in each pair of twins, head against the same code as base, and write all pairs.

    Raises:
        CannotDo: the file cannot be written.

    """
    check_writable(options.path)
    torch.set_num_threads(options.threads)
    measured: dict[str, tuple[Measurement, ...]] = {}
    for _ in tqdm(range(TWINS), unit="pair of twins"):
        with same_code_twice(options.threads, options.device) as (sides, package):
            gate = Gate(sides, Base(package))
            every = sides.head.ask("cases", options.tier, (options.device,))
            cases = [case for case, unsupported in every.items() if unsupported is None and case.timed]
            for case in cases:
                gate.check(case)
                measurement = sides.measure(Never(), options.time_limit / TWINS / len(cases))
                measured[case.id] = (*measured.get(case.id, ()), measurement)
    results = tuple(CaseResult(Evidence(id_, measurements=all_), Verdict.UNCHANGED) for id_, all_ in measured.items())
    described = {"origin": package.origin, "source_sha256": package.sha256}
    here = environment.describe(steady_allocator())
    write_atomically(options.path, as_pairs(Run(described, described, here, Policy(), results)))
