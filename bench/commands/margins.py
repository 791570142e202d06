"""``python -m bench margins``: the share of its error budget that each kernel uses, by dtype, as a Markdown table."""

import argparse
from collections import defaultdict
from typing import Any

import attention

from ..suite.cases import DEVICES, DTYPES
from ..suite.gate import Gate
from ..suite.matrix import ROWS, TIERS, Row, matrix
from ..suite.side import Side
from ..suite.sides import in_process
from ..timing import environment

# Every kernel and module in every dtype, both ways: more than a gate has time for.
EVERY_SUBJECT = "kernels compiling variants modules"
EVERYTHING = Row(
    "pr", "b1h4t128d64 b1h4t128d64softcap2sinks", "full causal causalwindow32", " ".join(DTYPES), subjects=EVERY_SUBJECT
)


def add_command(commands: Any) -> None:
    """Declare ``margins`` among the commands of the command line."""
    parser = commands.add_parser("margins", help="show errors as shares of their budgets")
    parser.add_argument("--tier", choices=TIERS, default="pr", help="cases (default %(default)s)")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where (default %(default)s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Check every case of the tier on one device, on one thread, and print the largest share by kernel and dtype.

    The tiers from ``pr`` on have every kernel, dtype and direction: where there is no share, the kernel supports none.

    Raises:
        CannotDo: the device is not here.

    """
    environment.check_device(options.device)
    environment.hold_still(threads=1)
    head = Side.of("head", attention)
    gate = Gate(in_process(head))
    shares: dict[tuple[str, str, str], float] = defaultdict(float)
    rows = (*ROWS, EVERYTHING)
    for case, unsupported in matrix(head.kernels, head.modules, options.tier, (options.device,), rows).items():
        if unsupported is None:
            for error in gate.check(case).errors:
                kind = "output" if error.name == "out" else "gradients"
                key = case.subject, case.dtype, kind
                shares[key] = max(shares[key], error.share)
    columns = [(dtype, kind) for dtype in DTYPES for kind in ("output", "gradients")]
    print("| kernel | " + " | ".join(f"{dtype} {kind}" for dtype, kind in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for subject in (*head.kernels, *head.modules):
        cells = [shares.get((subject, *column)) for column in columns]
        print(f"| `{subject}` | " + " | ".join("-" if c is None else f"{c:.0%}" for c in cells) + " |")
