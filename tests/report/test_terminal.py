"""The terminal's report: what it shows once, and what it shows of a text that a kernel wrote."""

import pytest

from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence
from bench.plain.printable import LINE_LENGTH, TEXT_LENGTH, first_line, readable
from bench.report.terminal import describe, write_table

RAISED = "head raised ValueError: \x1b[1;31mno\x1b[0m \u202etiles\n::error file=x::hit\r\n" + "\n".join(
    map(str, range(41))
)
LONG = CaseResult(Evidence("k"), Verdict.ERROR, (RAISED,))


class Lines:
    """A terminal that keeps what is written."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.colours: list[str] = []  # of the lines

    def section(self, title: str, sep: str = "=", **_: bool) -> None:
        self.lines.append(f"{sep} {title}")

    def write_line(self, line: str, **markup: bool) -> None:
        self.lines.append(line)
        self.colours.append(" ".join(markup))


def run_of(*cases: CaseResult) -> Run:
    side = {"origin": "x", "source_sha256": "0"}
    return Run(side, side, {}, Policy(), cases)


def written(*cases: CaseResult) -> list[str]:
    terminal = Lines()
    write_table(run_of(*cases), terminal)
    return terminal.lines


def test_a_row_has_the_colour_of_what_its_verdict_means() -> None:
    terminal = Lines()
    write_table(run_of(*(CaseResult(Evidence("a"), verdict) for verdict in Verdict)), terminal)
    assert terminal.colours[:11] == ["bold", *["red"] * 5, "yellow", "yellow", "green", "cyan", ""]


def test_cases_skipped_for_one_reason_share_a_line() -> None:
    skipped = [CaseResult(Evidence(name), Verdict.SKIPPED, ("manual does not support a mask",)) for name in "abc"]
    other = CaseResult(Evidence("d"), Verdict.SKIPPED, ("needs 9 GiB",))
    lines = written(CaseResult(Evidence("e"), Verdict.UNCHANGED), *skipped, other)
    assert "SKIPPED a and 2 more: manual does not support a mask" in lines
    assert "SKIPPED d: needs 9 GiB" in lines
    assert sum("SKIPPED" in line for line in lines) == 2


def test_a_run_of_skipped_cases_alone_can_be_written() -> None:
    assert "SKIPPED a: needs 9 GiB" in written(CaseResult(Evidence("a"), Verdict.SKIPPED, ("needs 9 GiB",)))


def test_a_message_of_many_lines_is_its_first_in_the_table_and_the_closing_line() -> None:
    skipped = CaseResult(Evidence("s"), Verdict.SKIPPED, (RAISED,))
    lines = [*written(LONG, skipped), run_of(LONG).closing_line]
    assert sum(line.endswith("head raised ValueError: no  tiles…") for line in lines) == 3
    assert all(line.isprintable() for line in lines)


def test_a_message_of_many_lines_is_whole_where_a_failure_is_described_and_gives_no_commands() -> None:
    assert describe(LONG, ()).splitlines()[:4] == [
        "k: ERROR",
        "  head raised ValueError: no  tiles",
        "  | ::error file=x::hit",
        "  | 0",
    ]
    assert describe(LONG, ()).endswith("\n  | 40")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one", "one"),
        ("", ""),
        ("a\x00b\tc\udcff", "a b c "),
        ("one\u2028two", "one…"),
        ("\x1b[2K\x1b[38;5;1mred\x1b[m", "red"),
        ("x" * LINE_LENGTH, "x" * LINE_LENGTH),
        ("x" * (LINE_LENGTH + 1), "x" * LINE_LENGTH + "…"),
        ("one\n" + "x" * LINE_LENGTH, "one…"),
    ],
)
def test_a_line_is_printable_bounded_and_shows_that_there_is_more(text: str, line: str) -> None:
    assert first_line(text) == line


def test_a_text_keeps_its_lines_up_to_a_limit() -> None:
    assert readable("a\n  b\x07") == "a\n  b "
    assert readable("x" * TEXT_LENGTH) == "x" * TEXT_LENGTH
    assert readable("x" * 3_000_000) == "x" * TEXT_LENGTH + "…"
