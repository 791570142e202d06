"""The page and the Markdown: complete, self-contained, and true where a GPU is missing."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.study import left_out, more_tables, plots, report
from bench.study.judgement import CLAIMS
from bench.study.published import ROWS, TABLES, figures_by_tokens
from bench.study.report import Report
from bench.study.results import ERROR, PAIRED_NS, PEAK_BYTES, Results, Series

Found = Callable[..., Results]
STUDY = Path(__file__).parents[2] / "bench" / "study"


@pytest.fixture(scope="module")
def made(found: Found) -> Report:
    return report.make(found("cpu", hand=0.5), ("cpu",), {"cpu": "Processor <9>", "torch": "2.x", "os": "a|b"})


def test_every_figure_of_the_study_stands_in_its_table(made: Report) -> None:
    for row in ROWS:
        (table,) = (t for t in made.tables if t.title.startswith(row.table))
        cells = [cells for cells in table.rows if cells[0] == row.label]
        assert row.statement in [cell[2] for cell in cells]


def test_a_row_of_a_gpu_says_that_it_needs_one_and_has_a_line_for_the_cpu(made: Report) -> None:
    (table,) = (t for t in made.tables if t.title.startswith("B1"))
    gpu, cpu = (cells for cells in table.rows if cells[0] == "8 heads, SDPA")
    assert gpu == ("8 heads, SDPA", "GPU", "1.5 ms", "needs a GPU", "needs a GPU")
    assert cpu[:3] == ("8 heads, SDPA", "CPU", "-")
    assert cpu[3] == "1 ms (20 runs)"
    assert cpu[4].startswith("1 ms [0.99")


def test_with_a_gpu_the_row_is_measured(found: Found) -> None:
    made = report.make(found("cuda"), ("cuda",), {})
    (table,) = (t for t in made.tables if t.title.startswith("B2"))
    (row,) = (cells for cells in table.rows if cells[0] == "512 tokens")
    assert row[:3] == ("512 tokens", "GPU", "1.5 ms")
    assert row[4].startswith("0.262 ms [")


def test_a_claim_that_does_not_hold_is_said_plainly_on_both(made: Report, tmp_path: Path) -> None:
    page, text = report.write(made, tmp_path)
    for written in (page.read_text(), text.read_text()):
        assert "does not hold" in written
        assert "by hand takes 0.5 times as long as PyTorch" in written


def test_the_machine_is_named_at_the_top(made: Report) -> None:
    assert made.machine == "Measured on: Processor <9>, 2.x (torch), no GPU."
    assert report.describe({"cpu": "P", "gpu": "G"}) == "Measured on: P, G."


def test_page_and_markdown_hold_every_table_and_plot(made: Report, tmp_path: Path) -> None:
    page, text = report.write(made, tmp_path)
    html, markdown = page.read_text(), text.read_text()
    titles = [table.title for table in (made.claims, *made.tables, *made.more)]
    assert [title.partition(":")[0] for title in titles[1:8]] == [table.name for table in TABLES]
    for title in titles:
        assert f"<h2>{title}</h2>" in html
        assert f"\n## {title}\n" in markdown
    assert html.count("<figure ") == len(made.plots)
    for plot in made.plots:
        assert plot.caption in html
        assert f"](study-plots/{plot.name}.svg)" in markdown
        assert (tmp_path / "study-plots" / f"{plot.name}.svg").exists()
    assert html.count('class="HOLDS"') + html.count('class="DOES_NOT_HOLD"') >= 2
    assert len(made.claims.rows) > len(CLAIMS)


def test_the_page_needs_nothing_else_and_escapes_what_it_is_told(made: Report) -> None:
    html = report.as_html(made)
    assert html.lstrip().startswith("<!doctype html>")
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", re.sub(r"xlink:href=", "href=", html))
    assert "@import" not in html
    assert "Processor &lt;9&gt;" in html
    assert "Processor <9>" not in html
    assert not re.search(r"<script", html)


def test_plots_take_the_page_s_text_colour_and_files_are_dark_on_white(made: Report) -> None:
    for plot in made.plots:
        assert "currentColor" in plot.inline
        assert "#010203" not in plot.inline
        assert "currentColor" not in plot.file
        assert 'fill="#fff"' in plot.file
        ET.fromstring(plot.file)  # noqa: S314  # our own drawing
        assert f'aria-label="{plot.title}"' in plot.inline


def test_no_two_plots_on_the_page_share_the_name_of_a_part(made: Report) -> None:
    names = [name for plot in made.plots for name in set(re.findall(r'\bid="([mp][0-9a-f]{8,})"', plot.inline))]
    assert names
    assert len(names) == len(set(names))


def test_captions_are_computed_from_the_data(found: Found) -> None:
    results = found("cpu", growth=1.0)
    (time,) = plots.time_by_tokens(results, "cpu")
    assert "by hand, fused, as T^1.00 [1.00, 1.00]" in time.caption
    (time,) = plots.time_by_tokens(found("cpu", growth=2.0), "cpu")
    assert "as T^2.00 [2.00, 2.00]" in time.caption
    (error,) = plots.speed_and_error(results, "cpu", "fp32")
    assert "SDPA, fused is the fastest (1 ms, error 1e-07)" in error.caption
    (heads,) = plots.heads(results, "cpu")
    assert "2.00 [2.00, 2.00] with 4" in heads.caption


def test_a_tie_of_the_most_exact_is_named_as_one() -> None:
    errors = {"slow": (2e6, 1e-7), "quick": (1e6, 1e-7), "wrong": (5e5, 1e-5)}
    case = "b1h8t512d64-full-fp32-fwd"
    series = [
        Series("error", "cpu", name, case, quantity, (value,))
        for name, values in errors.items()
        for quantity, value in zip((PAIRED_NS, ERROR), values, strict=True)
    ]
    (error,) = plots.speed_and_error(Results(tuple(series)), "cpu", "fp32")
    assert "quick the most exact (1 ms, error 1e-07, as slow);" in error.caption


def test_long_context_is_shown_beside_a_score_matrix_or_named_as_too_long() -> None:
    where = ("long context", "cpu")
    case = "b1h1t32768d32-causal-fp32-fwdbwd"
    series = (
        Series(*where, "linear", case, PEAK_BYTES, (23e6,)),
        Series(*where, "square", case, PEAK_BYTES, missing="about 90 s a call, too long for --time-limit"),
    )
    table = more_tables.long_context(Results(series))
    assert [row[2:] for row in table.rows] == [
        ("32768", "23 MB", "4295 MB"),
        ("32768", "not measured: about 90 s a call, too long for --time-limit", "4295 MB"),
    ]


def test_a_report_of_nothing_is_still_a_report(tmp_path: Path) -> None:
    page, text = report.write(report.make(Results(), ("cpu",), {}), tmp_path)
    assert "Nothing was measured." in text.read_text()
    assert "Nothing was measured." in page.read_text()


def test_markdown_tables_have_as_many_cells_in_every_line(made: Report) -> None:
    for block in report.as_markdown(made, "plots").split("\n\n"):
        if block.startswith("| "):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_what_was_left_out_is_looked_up_among_what_there_is() -> None:
    rows = {what: here for what, here, _ in left_out.rows(["sdpa", "sliding_window", "string"], ["sdpa"])}
    assert rows["sparse attention"] == "sliding_window"
    assert rows["several GPUs, several nodes"] == "not in this version"  # "ring" is not a word of "string"
    assert rows["the backward pass"] == "sdpa"
    here = {what: here for what, here, _ in left_out.rows(left_out.names(), [])}
    assert here["multi-head attention"].startswith("mha, ")


def test_the_study_s_own_figures_do_not_grow_as_it_says() -> None:
    assert figures_by_tokens("B2") == {128: 0.4, 512: 1.5, 1024: 5.9}
    assert figures_by_tokens("B3") == {128: 200, 512: 700, 1024: 2300}
