"""Every number that any command takes, given senseless values: one sentence, exit code 4, and no traceback."""

import argparse
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.__main__ import COMMANDS, main
from bench.plain.arguments import Parser
from bench.study import tensor_parallel

SENSELESS = ("0", "-1", "nan", "inf", "1e99", "x", "", "5%%")
# Nothing else of a command is a number, and none has another word for time, threads or the threshold.
NUMBERS = {
    "bisect": {"--gate-budget", "--gate-threshold", "--threads"},
    "conformance": set[str](),
    "demo": set[str](),
    "explain": {"--threads"},
    "history": set[str](),
    "init": set[str](),
    "margins": set[str](),
    "merge": set[str](),
    "overhead": {"--threads", "--time-limit"},
    "peers": {"--runs"},
    "replay": {"--gate-threshold", "--runs"},
    "selftest": {"--gate-threshold", "--threads", "--time-limit"},
    "study": {"--threads", "--time-limit"},
    "tensor_parallel": {"--pairs"},
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where a command that takes a senseless value after all may write."""
    monkeypatch.chdir(tmp_path)


def parser_of(command: str) -> argparse.ArgumentParser:
    if command == "tensor_parallel":
        return tensor_parallel.parser()
    commands = Parser().add_subparsers()
    importlib.import_module(f"bench.{COMMANDS[command]}").add_command(commands)
    parser: argparse.ArgumentParser = commands.choices[command]
    return parser


def arguments() -> Iterator[tuple[str, list[str], Callable[[list[str]], int]]]:
    """Each option that is a number: its name, the words before it, and what takes them."""
    for command, options in NUMBERS.items():
        given = ["x" for action in parser_of(command)._actions if not action.option_strings]
        run, words = (tensor_parallel.main, given) if command == "tensor_parallel" else (main, [command, *given])
        yield from ((option, words, run) for option in sorted(options))


@pytest.mark.parametrize("command", [*COMMANDS, "tensor_parallel"])
def test_the_numbers_that_a_command_takes_are_all_of_a_known_kind(command: str) -> None:
    typed = {a.option_strings[-1]: a.type for a in parser_of(command)._actions if a.option_strings}
    assert {option for option, kind in typed.items() if getattr(kind, "func", None)} == NUMBERS[command]
    assert not {int, float} & set(typed.values())


@pytest.mark.parametrize(
    ("option", "words", "run"),
    [pytest.param(*argument, id=" ".join([*argument[1], argument[0]])) for argument in arguments()],
)
def test_senseless_values_are_one_sentence_each_and_exit_code_4(
    capsys: pytest.CaptureFixture[str], option: str, words: list[str], run: Callable[[list[str]], int]
) -> None:
    for value in SENSELESS:
        assert run([*words, f"{option}={value}"]) == 4, value
        said = capsys.readouterr()
        assert said.err.startswith(f"error: {option}={value}: give a ")
        assert said.err.count("\n") == 1
        assert said.out == ""


@pytest.mark.parametrize("words", [["no-such-command"], ["selftest", "--tier=huge"], ["margins", "--nothing"], []])
def test_what_no_command_takes_is_one_sentence_and_exit_code_4(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(words) == 4
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert "--help shows what can be given" in said.err
    assert said.err.count("\n") == 1
