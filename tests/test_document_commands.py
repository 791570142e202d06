"""Every command in every document is one that there is, with options that there are."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.__main__ import parser_of

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "bench" / "docs").glob("*.md"))]
OURS = re.compile(r"(?:(?:PYTHONPATH=\S+ )?python -m (?:bench|pytest)|\bpytest|make)\b(?! -C)[^`\n]*")
OTHERS = {
    "git",
    "pip",
    "cp",
    "cd",
    "rm",
    ".",
    "$EDITOR",
    "tar",
    "unearth",
    "torchrun",
    "python",
    "pre-commit",
    "chromium",
}


def commands() -> Iterator[tuple[str, str]]:
    """Yield each command: a line of a console block, code in a sentence, or what made an output or a picture."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
        lines = [line for block in blocks for line in re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, flags=re.MULTILINE)]
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose) if OURS.match(code)]
        lines += re.findall(r"<!-- (?:output|picture) of: (.*?) -->", text)
        for line in lines:
            for command in re.split(r" && | \| ", re.sub(r"\s+# .*", "", line.replace("\\\n", " "))):
                yield path.name, command.strip()


@pytest.mark.parametrize(("document", "command"), sorted(set(commands())))
def test_a_command_is_one_that_there_is(document: str, command: str, pytestconfig: pytest.Config) -> None:
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    arguments = [word.strip("[]") for word in words if word != "..."]
    match [arguments[0].rpartition("/")[2], *arguments[1:]]:
        case ["make", *rest]:
            targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
            assert set(rest) - {"-C", "SUITE"} <= targets
            options = re.search(r"ARGS=\"(.*)\"", command)
            if options is not None and "bench" in rest:
                _parse(pytestconfig, options[1])
        case ["python", "-m", "pytest", *rest] | ["pytest", *rest]:
            _parse(pytestconfig, shlex.join(rest))
        case ["python", "-m", "bench", *rest]:
            if rest[1:]:
                parser_of(rest).parse_args(rest)
            else:
                parser_of(rest)
        case [name, *_]:
            assert name in OTHERS, f"{document}: what is {command!r}?"


def _parse(config: pytest.Config, options: str) -> None:
    config._parser.parse(shlex.split(options))
