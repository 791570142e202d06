"""How figures are written: intervals with an end that is not known, and times that agree with the ratio."""

import pytest

from bench.judging.policy import Policy
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence
from bench.plain.printable import counted
from bench.report.text import COLUMNS, legend, row, share


def cells(
    ci: tuple[float | None, float | None] = (0.98, 1.02), ratio: float | None = 1.2, base_ns: float | None = 1e6
) -> dict[str, str]:
    case = CaseResult(Evidence("a"), Verdict.UNCHANGED, ratio=ratio, ci=ci, base_ns=base_ns, head_ns=1.1e6)
    return dict(zip(COLUMNS, row(case), strict=True))


@pytest.mark.parametrize(
    ("ci", "text"),
    [
        ((0.98, 1.02), "[0.980, 1.020]"),
        ((None, 1.012), "at most 1.012"),
        ((0.98, None), "at least 0.980"),
        ((None, None), "too few pairs"),
    ],
)
def test_an_interval_says_what_its_pairs_bound(ci: tuple[float | None, float | None], text: str) -> None:
    assert cells(ci)["interval"] == text
    assert cells(ci, ratio=None)["interval"] == "-"


def test_the_head_s_time_is_what_the_ratio_makes_of_the_base_s() -> None:
    assert (cells()["base"], cells()["head"]) == ("1 ms", "1.2 ms")
    assert cells(ratio=None)["head"] == cells(base_ns=None)["head"] == "-"


def test_the_legend_says_once_how_figures_are_to_be_read() -> None:
    assert legend(Policy()) == (
        "ratio = head/base, the median of the pairs; head = base x ratio; "
        "intervals: simultaneous 99.9% lower bounds, upper bounds 99.8% each"
    )


@pytest.mark.parametrize(
    ("margin", "text"),
    [(None, "-"), (0.5, "50%"), (99.4, "9940%"), (43976.6, "43,977 x"), (3e20, "3e+20 x"), (float("inf"), "inf x")],
)
def test_an_error_beyond_reading_as_percent_is_a_multiple_of_its_budget(margin: float | None, text: str) -> None:
    assert share(margin) == text


def test_a_number_has_its_noun_in_the_right_number() -> None:
    assert [counted(n, "case") for n in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]
    assert counted(2, "pair of twins", "pairs of twins") == "2 pairs of twins"
