"""Numbers as they are typed: what each kind takes, and what it says of the rest."""

import pytest

from bench.plain.arguments import COUNT, PERCENT, PORTION, SECONDS, THREADS, ArgumentKind, Parser
from bench.plain.errors import CannotDo


@pytest.mark.parametrize(
    ("kind", "text", "number"),
    [
        (THREADS, "1", 1),
        (THREADS, "9999", 9999),
        (COUNT, "1000000", 1_000_000),
        (SECONDS, "3", 3.0),
        (SECONDS, "0.5", 0.5),
        (SECONDS, "86400", 86_400.0),
        (PERCENT, "5", 0.05),
        (PERCENT, "5%", 0.05),
        (PERCENT, "5.0%", 0.05),
        (PERCENT, "0.1", 0.001),
        (PERCENT, "1000%", 10.0),
        (PORTION, "0", 0.0),
        (PORTION, "0.1%", 0.001),
        (PORTION, "100%", 1.0),
    ],
)
def test_what_makes_sense_is_read(kind: ArgumentKind[float], text: str, number: float) -> None:
    assert kind.read("--option", text) == number


@pytest.mark.parametrize(
    ("kind", "text", "form"),
    [
        (THREADS, "10000", "a whole number from 1 to 9999"),
        (THREADS, "1.5", "a whole number from 1 to 9999"),
        (THREADS, 5000 * "9", "a whole number from 1 to 9999"),  # more digits than Python makes a number of
        (COUNT, "1000001", "a whole number from 1 to 1000000"),
        (SECONDS, "86401", "a positive number of seconds, at most 86400, such as 3"),
        (SECONDS, "soon", "a positive number of seconds, at most 86400, such as 3"),
        (PERCENT, "0.05", "a percentage from 0.1% to 1000%, such as 5%"),
        (PERCENT, "5%%", "a percentage from 0.1% to 1000%, such as 5%"),
        (PERCENT, "%", "a percentage from 0.1% to 1000%, such as 5%"),
        (PERCENT, "1001%", "a percentage from 0.1% to 1000%, such as 5%"),
        (PORTION, "0.05", "0% or a percentage from 0.1% to 100%, such as 5%"),
        (PORTION, "101%", "0% or a percentage from 0.1% to 100%, such as 5%"),
        (PORTION, "-1%", "0% or a percentage from 0.1% to 100%, such as 5%"),
        (PORTION, "nan", "0% or a percentage from 0.1% to 100%, such as 5%"),
    ],
)
def test_what_makes_none_is_refused_with_what_to_give(kind: ArgumentKind[float], text: str, form: str) -> None:
    with pytest.raises(CannotDo) as refusal:
        kind.read("--option", text)
    assert str(refusal.value) == f"--option={text}: give {form}"


def test_a_default_is_read_as_what_is_given_would_be_and_shown_in_the_help() -> None:
    parser = Parser(prog="tool")
    PERCENT.declare(parser, "--share", "5%", "how much")
    assert parser.parse_args([]).share == 0.05
    assert "--share PERCENT how much (default 5%)" in " ".join(parser.format_help().split())


def test_what_the_parser_does_not_know_is_refused_in_one_sentence() -> None:
    with pytest.raises(CannotDo, match=r"^unrecognized arguments: --nothing: tool --help shows what can be given$"):
        Parser(prog="tool").parse_args(["--nothing"])
