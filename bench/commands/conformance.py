"""``python -m bench conformance``: a table of the contract's rules: which ones a kernel keeps, refuses or breaks."""

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..plain.files import check_writable, write_atomically
from ..plain.printable import table
from ..plain.strict_json import dumps
from ..report.escaping import markdown as cell
from ..sources.target import Target
from ..suite.cases import DEVICES, DTYPES
from ..suite.contract import FAILS, HOLDS, REFUSED, Finding, examine
from ..suite.rules import RULES
from ..suite.side import load
from ..timing import environment

DEFAULT_DTYPE = "fp32"  # of a kernel that takes none of ours
_COUNTED = {HOLDS: "kept", REFUSED: "refused", FAILS: "broken"}  # outcome -> how its count is written


def add_command(commands: Any) -> None:
    """Declare ``conformance`` among the commands of the command line."""
    parser = commands.add_parser("conformance", help="show which rules of a kernel's contract hold")
    parser.add_argument("--kernel", action="append", required=True, metavar="PKG.MOD:FN", help="as for pytest")
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[0], help="where (default %(default)s)")
    parser.add_argument(
        "--dtype", choices=tuple(DTYPES), help="of most rules (default: the first that the kernel takes)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the findings as JSON")
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write them as Markdown")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Try every rule on every kernel and print a table of each.

    Returns 1 where some rule fails, 4 where a kernel refuses most rules, and else 0.

    Raises:
        CannotDo: a kernel cannot be imported or has an unknown signature, there is no such device, or a report cannot
            be written.

    """
    environment.check_device(options.device)
    for path in filter(None, (options.json, options.markdown)):
        check_writable(path)
    environment.hold_still(threads=1)
    side = load(Target(tuple(options.kernel)), (options.device,))
    found: list[Examined] = []
    for name, kernel in side.kernels.items():
        found.append(Examined.of(name, kernel, options.device, options.dtype))
        print(as_text(found[-1]))
    if options.json is not None:
        write_atomically(options.json, dumps({one.name: [asdict(f) for f in one.findings] for one in found}, indent=1))
    if options.markdown is not None:
        write_atomically(options.markdown, as_markdown(found))
    if any(FAILS in one.outcomes.values() for one in found):
        return 1
    return 4 if any(one.mostly_refused for one in found) else 0


@dataclass(frozen=True)
class Examined:
    """What the rules found of one kernel; ``dtype`` is that of most rules, and it takes those in ``taken``."""

    name: str
    device: str
    dtype: str
    taken: Sequence[str]
    findings: Sequence[Finding]

    @classmethod
    def of(cls, name: str, kernel: Any, device: str, dtype: str | None) -> "Examined":
        """Try every rule in a dtype, by default the first that the kernel takes."""
        taken = tuple(word for word, of_torch in DTYPES.items() if _takes(kernel, device, of_torch))
        chosen = dtype or next(iter(taken), DEFAULT_DTYPE)
        return cls(name, device, chosen, taken, tuple(examine(kernel, RULES, device, DTYPES[chosen])))

    @property
    def heading(self) -> str:
        return f"{self.name}, in {self.dtype} on {self.device}"

    @property
    def outcomes(self) -> dict[str, str]:
        """Whether each rule fails in some row, is refused in most of its rows, or else holds.

        Rules are counted and not rows: a rule about masks has many rows, all of which a kernel without masks refuses.
        """
        rows: dict[str, list[str]] = defaultdict(list)
        for finding in self.findings:
            rows[finding.rule].append(finding.outcome)
        return {
            rule: FAILS if FAILS in found else REFUSED if 2 * found.count(REFUSED) > len(found) else HOLDS
            for rule, found in rows.items()
        }

    @property
    def mostly_refused(self) -> str | None:
        """Say so if more rules were refused than tried, and what to do."""
        outcomes = Counter(self.outcomes.values())
        if 2 * outcomes[REFUSED] <= outcomes.total():
            return None
        ((words, _),) = Counter(finding.why for finding in self.findings if finding.outcome == REFUSED).most_common(1)
        cure = "most of the contract was not checked"
        if self.taken and self.dtype not in self.taken:
            cure = f"give --dtype={self.taken[0]}"
        return f"mostly refused: {outcomes[REFUSED]} of {outcomes.total()} rules, most often as {words!r}: {cure}"

    @property
    def closing(self) -> list[str]:
        """Count the rules by outcome, and say whether most were refused."""
        found = Counter(self.outcomes.values())
        counts = ", ".join(f"{found[outcome]} {word}" for outcome, word in _COUNTED.items() if found[outcome])
        return [f"{found.total()} rules: {counts}", *([self.mostly_refused] if self.mostly_refused else [])]


def _takes(kernel: Any, device: str, dtype: torch.dtype) -> bool:
    """Whether a kernel takes a dtype, by its capabilities."""
    can = kernel.capabilities
    obstacle = None if can.obstacle is None else can.obstacle(device=device, dtype=dtype, mask=None, backward=False)
    return dtype in can.dtypes and obstacle is None


def as_text(one: Examined) -> str:
    """Show a kernel's findings as lines, with the count of rules at the end."""
    width = max(len(_row(finding)) for finding in one.findings)
    lines = [f"{_row(finding):<{width}}  {finding.outcome:<7}  {_why(finding)}".rstrip() for finding in one.findings]
    return "\n".join([one.heading, *lines, *one.closing, ""])


def as_markdown(found: Sequence[Examined]) -> str:
    """Show all kernels' findings as tables."""
    lines: list[str] = []
    for one in found:
        rows = ((cell(_row(finding)), finding.outcome, cell(_why(finding))) for finding in one.findings)
        lines += [f"### {cell(one.heading)}", "", *table(("rule", "", "why"), rows)]
        lines += ["", cell("; ".join(one.closing)), ""]
    return "\n".join(lines)


def _row(finding: Finding) -> str:
    return finding.rule + (f" ({finding.variant})" if finding.variant else "")


def _why(finding: Finding) -> str:
    return f"{finding.smallest}: {finding.why}" if finding.smallest else finding.why
