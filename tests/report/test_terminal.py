"""The terminal's report: what it shows once."""

from bench.report.terminal import write_table
from bench.verdict import CaseResult, Policy, Run, Verdict


class Lines:
    """A terminal that keeps what is written."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def section(self, title: str, sep: str = "=", **_: bool) -> None:
        self.lines.append(f"{sep} {title}")

    def write_line(self, line: str, **_: bool) -> None:
        self.lines.append(line)


def written(*cases: CaseResult) -> list[str]:
    terminal = Lines()
    side = {"origin": "x", "source_sha256": "0"}
    write_table(Run(side, side, {}, Policy(), cases), terminal)
    return terminal.lines


def test_cases_skipped_for_one_reason_share_a_line() -> None:
    skipped = [CaseResult(name, Verdict.SKIPPED, ("manual does not support a mask",)) for name in "abc"]
    other = CaseResult("d", Verdict.SKIPPED, ("needs 9 GiB",))
    lines = written(CaseResult("e", Verdict.UNCHANGED), *skipped, other)
    assert "SKIPPED a and 2 more: manual does not support a mask" in lines
    assert "SKIPPED d: needs 9 GiB" in lines
    assert sum("SKIPPED" in line for line in lines) == 2


def test_a_run_of_skipped_cases_alone_can_be_written() -> None:
    assert "SKIPPED a: needs 9 GiB" in written(CaseResult("a", Verdict.SKIPPED, ("needs 9 GiB",)))
