"""``python -m bench conformance``: a table of the contract's rules: which ones a kernel keeps, refuses or breaks."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..cases import DTYPES
from ..checking.contract import FAILS, Finding, examine
from ..plain.errors import CannotDo
from ..plain.files import check_writable, write_atomically
from ..plain.strict_json import dumps
from ..report.escaping import markdown as cell
from ..sides.side import load
from ..sides.what import What
from ..timing.environment import present_devices

DEVICES = ("cpu", "cuda")


def add_command(commands: Any) -> None:
    """Declare ``conformance`` among the commands of the command line."""
    parser = commands.add_parser("conformance", help="show which rules of a kernel's contract hold")
    parser.add_argument("--kernel", action="append", required=True, metavar="PKG.MOD:FN", help="as for pytest")
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[0], help="where (default %(default)s)")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="fp32", help="of most rules (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the findings as JSON")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write them as Markdown")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Try every rule on every kernel and print a table of each; returns 0, or 1 where some rule fails.

    Raises:
        CannotDo: a kernel cannot be imported or has an unknown signature, there is no such device, or a report cannot
            be written.

    """
    if options.device not in present_devices():
        raise CannotDo(f"--device={options.device}: torch sees only {', '.join(present_devices())} here")
    for path in filter(None, (options.json, options.markdown)):
        check_writable(path)
    torch.set_num_threads(1)
    side = load(What(tuple(options.kernel)), (options.device,))
    found: dict[str, list[Finding]] = {}
    for name, kernel in side.kernels.items():
        found[name] = list(examine(kernel, options.device, DTYPES[options.dtype]))
        print(as_text(name, found[name]))
    if options.json is not None:
        write_atomically(options.json, dumps({n: [asdict(f) for f in fs] for n, fs in found.items()}, indent=1))
    if options.markdown is not None:
        write_atomically(options.markdown, as_markdown(found))
    return int(any(finding.outcome == FAILS for findings in found.values() for finding in findings))


def as_text(name: str, findings: Sequence[Finding]) -> str:
    """Show a kernel's findings as lines, with a count at the end."""
    width = max(len(_row(finding)) for finding in findings)
    lines = [f"{_row(finding):<{width}}  {finding.outcome:<7}  {_why(finding)}".rstrip() for finding in findings]
    counts = Counter(finding.outcome for finding in findings)
    return "\n".join([name, *lines, ", ".join(f"{count} {outcome}" for outcome, count in counts.items()), ""])


def as_markdown(found: Mapping[str, Sequence[Finding]]) -> str:
    """Show all kernels' findings as tables."""
    lines: list[str] = []
    for name, findings in found.items():
        lines += [f"### {cell(name)}", "", "| rule | | why |", "|---|---|---|"]
        lines += [f"| {cell(_row(f))} | {f.outcome} | {cell(_why(f))} |" for f in findings]
        lines.append("")
    return "\n".join(lines)


def _row(finding: Finding) -> str:
    return finding.rule + (f" ({finding.variant})" if finding.variant else "")


def _why(finding: Finding) -> str:
    return f"{finding.smallest}: {finding.why}" if finding.smallest else finding.why
