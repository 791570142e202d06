"""Hostile text in reports, rendered as GitHub does: it stays text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bench.report.escaping import clip, command_data, command_property, markdown

RENDERER = MarkdownIt("gfm-like")
HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "an image": "![x](https://tracker.invalid/x.png)",
    "a link": "[click](https://evil.invalid)",
    "a bare link": "see https://evil.invalid/x and www.evil.invalid and ftp://evil.invalid",
    "an address": "mail me@evil.invalid or mailto:me@evil.invalid",
    "a cell's end": r"one | two \| three \\| four",
    "code": "`code` and ``more | code``",
    "emphasis": "*a* _b_ ~~c~~ **d**",
    "an entity": "&lt;b&gt; &#124;",
    "a line's end": "a\n\n# heading\r\n- item\u2028x",
    "a turned direction": "safe\u202egnp.exe",
    "half a backslash": "ends in \\",
    "a footnote": "[^1]",
    "math": "$x$ and $$y$$",
}


def cells(text: str) -> list[str]:
    """Render a table with the text in its first cell, and return what its body's cells show."""
    tokens = RENDERER.parse(f"| a | b |\n| --- | --- |\n| {markdown(text)} | last |\n")
    body = tokens[[token.type for token in tokens].index("tbody_open") :]
    inline = [token for token in body if token.type == "inline"]
    assert {child.type for token in inline for child in token.children or ()} <= {"text", "text_special"}
    return ["".join(child.content for child in token.children or ()) for token in inline]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_in_a_cell_is_shown_as_text_and_stays_in_its_cell(text: str) -> None:
    shown, last = cells(text)
    assert last == "last"
    visible = "".join(" " if c in "\n\r\u2028\u202e" else c for c in text)
    assert shown.replace("\u200b", "").split() == visible.split()


@given(st.text(max_size=60).filter(lambda text: "." not in text))  # the renderer, unlike GitHub, links any a.al
def test_no_text_leaves_its_cell(text: str) -> None:
    assert cells(text)[1:] == ["last"]


@pytest.mark.parametrize("text", ["@someone", "a@b", "org/repo#12", "#12", "GH-12", "gh-12", "https://x.y", "www.x.y"])
def test_mentions_and_references_are_parted_by_a_character_that_is_not_seen(text: str) -> None:
    rendered = RENDERER.renderInline(markdown(text))
    assert "\u200b" in rendered
    assert text not in rendered
    assert "<a" not in rendered
    assert rendered.replace("\u200b", "") == text


def test_text_that_is_cut_shows_that_it_was() -> None:
    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdefg", 6) == "abcde…"


def test_a_workflow_command_cannot_be_ended_or_given_properties_by_its_text() -> None:
    assert command_data("50%\r\n::error::no") == "50%25%0D%0A::error::no"
    assert command_property("a,line=1::b\n%") == "a%2Cline=1%3A%3Ab%0A%25"
