"""The page and the Markdown: complete, self-contained, and true where a GPU is missing."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import attention
from bench.study import plots, report, tables
from bench.study.judgement import CLAIMS
from bench.study.published import DEVICES, FIGURES, LEFT_OUT, MORE, TABLES
from bench.study.report import Report
from bench.study.results import Quantity, Results, Series
from bench.study.subjects import case_of

Found = Callable[..., Results]


@pytest.fixture(scope="module")
def made(found: Found) -> Report:
    return report.make(found("cpu", hand=0.5), ("cpu",), {"cpu": "Processor <9>", "torch": "2.x", "os": "a|b"})


def table(made: Report, title: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """A table's rows by name and device."""
    (one,) = (t for t in (*made.tables, *made.more) if t.title.startswith(title))
    return {(row[0], row[1]): row[2:] for row in one.rows}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_figure_of_the_study_stands_in_its_table(found: Found, device: str) -> None:
    made = report.make(found(device), (device,), {})
    for name, study in FIGURES.items():
        rows = table(made, f"{name}:")
        assert {row: rows[row, DEVICES[study.device]][0] for row in study.rows} == study.rows


def test_a_row_of_a_gpu_says_that_it_needs_one_and_has_a_line_for_the_cpu(found: Found, made: Report) -> None:
    rows = table(made, "B1")
    assert rows["SDPA, fused, 8 heads", "GPU"] == ("1.5 ms", "needs a GPU", "needs a GPU")
    says, protocol, ours = rows["SDPA, fused, 8 heads", "CPU"]
    assert (says, protocol) == ("-", "1 ms (20 runs)")
    assert ours.startswith("1 ms [0.99")
    rows = table(report.make(found("cuda"), ("cuda",), {}), "B2")
    assert rows["SDPA, fused, 512 tokens", "GPU"][2].startswith("0.262 ms [")


def test_the_growth_of_memory_is_counted_and_needs_one_value_a_length(made: Report) -> None:
    assert table(made, "Growth")["SDPA, fused", "CPU"] == ("T^2", "128 to 1024", "T^2", "128 to 1024")
    assert table(made, "B3")["SDPA, fused, 512 tokens", "CPU"] == ("-", "-", "0.262 MB")


def test_repetitions_that_did_not_fit_are_scaled_and_said_to_be(made: Report) -> None:
    assert table(made, "A2")["by hand", "CPU"][:2] == ("7 s", "0.025 s (scaled from 20% of the calls)")


def test_what_was_not_measured_says_why_in_every_table() -> None:
    case = case_of("sdpa", "b1h8t512d64-causal-fp32-fwd", "cpu")
    quantities = {
        "A2": (Quantity.PAIRED_NS, Quantity.PROTOCOL_NS),
        "A4": (Quantity.CALL_NS,),
        "error": (Quantity.PAIRED_NS, Quantity.ERROR),
    }
    series = [
        Series(part, case, quantity, missing="it failed")
        for part in ("A2", "A4", "growth", "memory", "error", "long context")
        for quantity in quantities.get(part, (Quantity.PAIRED_NS,))
    ]
    made = report.make(Results(tuple(series)), ("cpu",), {})
    for title in ("A2", "A4", "Growth", "Speed and error", "Long context"):
        (cells,) = (cells for key, cells in table(made, title).items() if "sdpa" in key)
        assert "not measured: it failed" in cells
    assert made.plots == ()


def test_the_machine_is_named_at_the_top(made: Report) -> None:
    assert made.machine == "Measured on: Processor <9>, 2.x (torch), no GPU."
    assert report.describe({"cpu": "P", "gpu": "G"}) == "Measured on: P, G."


def test_page_and_markdown_hold_every_table_and_plot_and_every_claim_plainly(made: Report, tmp_path: Path) -> None:
    report.write(made, tmp_path)
    html, markdown = ((tmp_path / name).read_text() for name in ("study.html", "STUDY.md"))
    titles = [table.title for table in (*made.tables, *made.more)]
    assert [title.partition(":")[0] for title in titles[1:8]] == list(TABLES)
    for title in titles:
        assert f"<h2>{title}</h2>" in html
        assert f"\n## {title}\n" in markdown
    assert html.count("<figure ") == len(made.plots)
    for plot in made.plots:
        assert plot.caption in unescape(html)
        assert f"](study-plots/{plot.name}.svg)" in markdown
        assert (tmp_path / "study-plots" / f"{plot.name}.svg").exists()
    assert html.count('class="HOLDS"') + html.count('class="DOES_NOT_HOLD"') >= 2
    assert len(made.tables[0].rows) > len(CLAIMS)
    for written in (html, markdown):
        assert "does not hold" in written
        assert "by hand takes 0.5 times as long as PyTorch" in written
    for block in markdown.split("\n\n"):
        if block.startswith("| "):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_the_page_needs_nothing_else_and_escapes_what_it_is_told(made: Report) -> None:
    html = report.as_html(made)
    assert html.lstrip().startswith("<!doctype html>")
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", re.sub(r"xlink:href=", "href=", html))
    assert "@import" not in html
    assert "Processor &lt;9&gt;" in html
    assert "Processor <9>" not in html
    assert not re.search(r"<script", html)


def test_plots_take_the_page_s_text_colour_and_files_are_dark_on_white(made: Report) -> None:
    parts: list[str] = []
    for plot in made.plots:
        assert "currentColor" in plot.inline
        assert "#010203" not in plot.inline
        assert "currentColor" not in plot.file
        assert 'fill="#fff"' in plot.file
        ET.fromstring(plot.file)  # noqa: S314  # our own drawing
        assert f'aria-label="{plot.title}"' in plot.inline
        parts += set(re.findall(r'\bid="([mp][0-9a-f]{8,})"', plot.inline))
    assert parts
    assert len(parts) == len(set(parts)), "two plots on the page share the name of a part"


def test_the_plot_of_heads_shows_the_study_s_figures_beside_ours(found: Found) -> None:
    (heads,) = (plot for plot in plots.draw(found("cpu"), ("cpu",)) if plot.name == "heads-cpu")
    assert heads.curves["SDPA, fused"] == pytest.approx({4: 1.0, 8: 1.0, 16: 1.0})
    assert heads.curves["SDPA, fused, the study (GPU)"] == {4: 0.9, 8: 1.5, 16: 2.7}


def test_long_context_is_shown_beside_a_score_matrix_or_named_as_too_long() -> None:
    missing = "about 90 s a call, too long for --time-limit"
    linear, square = (case_of(name, "b1h1t32768d32-causal-fp32-fwdbwd", "cpu") for name in ("linear", "square"))
    series = (
        Series("long context", linear, Quantity.PEAK_BYTES, (23e6,)),
        Series("long context", square, Quantity.PEAK_BYTES, missing=missing),
    )
    long = tables.fill("long context", MORE["long context"], Results(series), ("cpu",))
    assert [row[2:] for row in long.rows] == [
        ("32768", "23 MB", "4295 MB"),
        ("32768", f"not measured: {missing}", "4295 MB"),
    ]


def test_a_report_of_nothing_is_still_a_report(tmp_path: Path) -> None:
    report.write(report.make(Results(), ("cpu",), {}), tmp_path)
    for name in ("study.html", "STUDY.md"):
        assert "Nothing was measured." in (tmp_path / name).read_text()


def test_what_the_write_ups_left_out_is_where_the_table_says() -> None:
    there = {*attention.KERNELS, *attention.MODULES, "attention/parallel.py"}
    assert (Path(attention.__file__).parent / "parallel.py").exists()
    for _, here, _ in LEFT_OUT.rows[:-1]:
        assert set(here.split(", ")) <= there
    assert LEFT_OUT.rows[-1][1] == "every kernel but decode"
    assert [name for name, kernel in attention.KERNELS.items() if not kernel.capabilities.backward] == ["decode"]
