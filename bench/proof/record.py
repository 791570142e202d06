"""``python -m bench record PATH``: the noise of unchanged code on this machine, each case for the same time."""

import argparse
import random
from math import inf
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import attention

from ..cases import TIERS, matrix
from ..gate import Gate
from ..judging.verdict import CaseResult, Policy, Run, Verdict
from ..plain.errors import CannotDo
from ..plain.files import check_writable, write_atomically
from ..report.pairs import as_pairs
from ..sides import source
from ..sides.side import Side, base_side
from ..timing import environment
from ..timing.clock import Clock
from ..timing.environment import THREADS
from ..timing.measure import Never, measure


def add_command(commands: Any) -> None:
    """Declare ``record`` among the commands of the command line."""
    parser = commands.add_parser("record", help="record the noise of unchanged code, to be replayed")
    parser.add_argument("path", type=Path, help="where to")
    parser.add_argument("--tier", choices=TIERS, default="smoke", help="cases (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="a case (default %(default)g)")
    parser.add_argument("--threads", type=int, default=1, help="default %(default)s")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure every case of the tier, head against the same code as base, and write all pairs.

    Raises:
        CannotDo: senseless options, or the file cannot be written.

    """
    if not 0 < options.seconds < inf or options.threads not in THREADS:
        raise CannotDo(f"give --seconds above zero and --threads from 1 to {THREADS[-1]}")
    check_writable(options.path)
    torch.set_num_threads(options.threads)
    allocator = environment.steady_allocator()
    package = source.from_directory(Path(attention.__file__ or "").parent)
    results = []
    with base_side(package) as base:
        head = Side.of("head", attention)
        cases = matrix(head.kernels, head.modules, options.tier, ("cpu",))
        for case in tqdm([case for case, unsupported in cases.items() if unsupported is None], unit="case"):
            checked = Gate(head, base).check(case)
            assert checked.base is not None  # both sides are the same code
            with torch.set_grad_enabled(case.backward):
                measurement = measure(
                    checked.base,
                    checked.head,
                    clock=Clock.of(case.device),
                    rule=Never(),
                    budget_s=options.seconds,
                    order=random.Random(),
                )
            results.append(CaseResult(case.id, Verdict.UNCHANGED, measurements=(measurement,)))
    described = {"origin": package.origin, "source_sha256": package.sha256}
    recorded = Run(described, described, environment.describe(allocator), Policy(), tuple(results))
    write_atomically(options.path, as_pairs(recorded))
