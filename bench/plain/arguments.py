"""Numbers on the command lines of pytest and of the commands: each kind is read or refused in one place."""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, NoReturn, TypeVar

from .errors import CannotDo

PROGRAM = f"python -m {__name__.partition('.')[0]}"  # in this repository bench, installed elsewhere twinbench
DEFAULT_THREADS = 1
DEFAULT_SHARD = "1/1"
MOST_THREADS = 9999
MOST_COUNT = 1_000_000
MOST_SECONDS = 86_400  # without a limit, a case that cannot be decided would never end

N = TypeVar("N", int, float)


@dataclass(frozen=True)
class ArgumentKind(Generic[N]):
    """A kind of number: its name in the help, what to give, how text becomes a number, and which numbers make sense."""

    metavar: str
    form: str
    parse: Callable[[str], N]
    makes_sense: Callable[[N], bool]

    def read(self, option: str, text: str) -> N:
        """Read the text that was given for an option.

        Raises:
            CannotDo: it is no number of this kind.

        """
        try:
            number = self.parse(text)
        except ValueError:
            number = None
        if number is None or not self.makes_sense(number):
            raise CannotDo(f"{option}={text}: give {self.form}")
        return number

    def declare(self, parser: argparse.ArgumentParser, option: str, default: str | None, what: str) -> None:
        """Declare an option of this kind; the default is text, as a user would give it, unless ``what`` says it."""
        read, said = partial(self.read, option), what if default is None else f"{what} (default %(default)s)"
        parser.add_argument(option, type=read, default=default, metavar=self.metavar, help=said)


def _share(text: str) -> float:
    return float(text.removesuffix("%")) / 100


THREADS = ArgumentKind("N", f"a whole number from 1 to {MOST_THREADS}", int, lambda n: 1 <= n <= MOST_THREADS)
COUNT = ArgumentKind("N", f"a whole number from 1 to {MOST_COUNT}", int, lambda n: 1 <= n <= MOST_COUNT)
SECONDS = ArgumentKind(
    "SECONDS",
    f"a positive number of seconds, at most {MOST_SECONDS}, such as 3",
    float,
    lambda seconds: 0 < seconds <= MOST_SECONDS,
)
# 5% is read as 0.05. Below 0.1% no time would be enough, and whoever writes 0.05 means 5%.
PERCENT = ArgumentKind(
    "PERCENT", "a percentage from 0.1% to 1000%, such as 5%", _share, lambda share: 0.001 <= share <= 10
)
PORTION = ArgumentKind(  # a share, which may be zero
    "PERCENT",
    "0% or a percentage from 0.1% to 100%, such as 5%",
    _share,
    lambda share: share == 0 or 0.001 <= share <= 1,
)


def read_shard(option: str, text: str) -> tuple[int, int]:
    """Read which part of how many: 2/3.

    Raises:
        CannotDo: it is none of that form, or there is no such part.

    """
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    index, count = (int(group) for group in match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise CannotDo(f"{option}={text}: give I/N with I from 1 to N, such as 2/3")
    return index, count


class Parser(argparse.ArgumentParser):
    """A parser that refuses bad input with one sentence and exit code 4, as pytest's options do."""

    def error(self, message: str) -> NoReturn:
        """Refuse.

        Raises:
            CannotDo: always.

        """
        raise CannotDo(f"{message}: {self.prog} --help shows what can be given")
