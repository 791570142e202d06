"""JSON that a parser of another language reads."""

import subprocess
from shutil import which

import pytest

from bench.plain.strict_json import dumps, loads, strict

HOSTILE = {"a": float("inf"), "b": [float("-inf"), {"c": float("nan")}, (1.5, 2)], "d": 1, "e": True, "f": "Infinity"}


def test_what_json_has_no_word_for_is_null_and_all_else_as_it_was() -> None:
    assert strict(HOSTILE) == {"a": None, "b": [None, {"c": None}, [1.5, 2]], "d": 1, "e": True, "f": "Infinity"}


def test_the_text_is_read_by_a_parser_that_takes_no_constants() -> None:
    text = dumps(HOSTILE, indent=1)
    assert loads(text)["f"] == "Infinity"
    assert text.endswith("\n")


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', "[NaN]", "[-Infinity]", "{", ""])
def test_what_is_not_written_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="a key is in an object twice|is not JSON|Expecting"):
        loads(text)


@pytest.mark.skipif(which("node") is None, reason="there is no Node.js here")
def test_javascript_reads_it() -> None:
    script = "console.log(JSON.parse(require('fs').readFileSync(0)).b.length)"
    done = subprocess.run(["node", "-e", script], input=dumps(HOSTILE), capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"
