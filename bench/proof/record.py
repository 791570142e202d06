"""``python -m bench record PATH``: the noise of unchanged code on this machine, each case for the same time."""

import argparse
import random
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import attention

from ..cases import TIERS, matrix
from ..gate import Gate
from ..judging.policy import Policy
from ..judging.run import Run
from ..judging.verdict import CaseResult, Verdict
from ..plain.arguments import DEFAULT_THREADS, SECONDS, THREADS
from ..plain.evidence import Evidence
from ..plain.files import check_writable, write_atomically
from ..report.pairs import as_pairs
from ..sides import source
from ..sides.base import Base
from ..sides.side import Side, base_side
from ..timing import environment
from ..timing.clock import Clock
from ..timing.measure import Never, measure


def add_command(commands: Any) -> None:
    """Declare ``record`` among the commands of the command line."""
    parser = commands.add_parser("record", help="record the noise of unchanged code, to be replayed")
    parser.add_argument("path", type=Path, help="where to")
    parser.add_argument("--tier", choices=TIERS, default="smoke", help="cases (default %(default)s)")
    SECONDS.declare(parser, "--time-limit", "300", "of measuring, for all cases together")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "CPU threads")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure every case of the tier, head against the same code as base, and write all pairs.

    Raises:
        CannotDo: the file cannot be written.

    """
    check_writable(options.path)
    torch.set_num_threads(options.threads)
    allocator = environment.steady_allocator()
    package = source.from_directory(Path(attention.__file__ or "").parent)
    results = []
    with base_side(package) as side:
        head, base = Side.of("head", attention), Base(side, package)
        every = matrix(head.kernels, head.modules, options.tier, ("cpu",))
        cases = [case for case, unsupported in every.items() if unsupported is None and case.timed]
        for case in tqdm(cases, unit="case"):
            checked = Gate(head, base).check(case)
            assert checked.base is not None  # both sides are the same code
            with torch.set_grad_enabled(case.backward):
                measurement = measure(
                    checked.base,
                    checked.head,
                    clock=Clock.of(case.device),
                    rule=Never(),
                    budget_s=options.time_limit / len(cases),
                    order=random.Random(),
                )
            results.append(CaseResult(Evidence(case.id, measurements=(measurement,)), Verdict.UNCHANGED))
    described = {"origin": package.origin, "source_sha256": package.sha256}
    recorded = Run(described, described, environment.describe(allocator), Policy(), tuple(results))
    write_atomically(options.path, as_pairs(recorded))
