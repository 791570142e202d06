"""The gate's own commands; ``--help`` lists them."""

import sys

# A file that lies where the command is given must not stand in for a module of the standard library, or of ours.
if __name__ == "__main__" and __package__ == "twinbench" and not sys.flags.safe_path:
    del sys.path[0]

import importlib
import os
from io import TextIOWrapper
from pathlib import Path

from .plain.arguments import PROGRAM, Parser
from .plain.errors import CannotDo, CannotGoOn

# Name -> modules: the first that is here has the command, since pip installs the engine alone. Only the one that is
# asked for is imported: not all of them need torch, which takes seconds.
_MODULES = {
    "bisect": ("commands.bisect_case", "commands.bisect"),
    "conformance": ("commands.conformance",),
    "demo": ("selftest.demo",),
    "explain": ("commands.explain",),
    "history": ("history.command",),
    "init": ("commands.init",),
    "margins": ("commands.margins",),
    "merge": ("commands.merge",),
    "overhead": ("commands.overhead",),
    "peers": ("selftest.peers",),
    "record": ("selftest.record",),
    "replay": ("selftest.replay",),
    "selftest": ("selftest.command", "selftest.selftest_of_tests"),
    "study": ("study.command",),
}
_HERE = Path(__file__).parent
COMMANDS = {
    name: found
    for name, modules in _MODULES.items()
    if (found := next((one for one in modules if _HERE.joinpath(*one.split(".")).with_suffix(".py").exists()), None))
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 4 it cannot be done as asked; of merge, that of the run.

    Where whoever reads the output stops, it is 141, as a shell has it for anything that such a reader ends.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = parser_of(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a message or a name may hold what it cannot encode
    try:
        options = parser.parse_args(arguments)
        exit_code: int | None = options.run(options)
        sys.stdout.flush()
    except (CannotDo, CannotGoOn) as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes the rest at exit
        return 141
    return exit_code or 0


def parser_of(arguments: list[str]) -> Parser:
    """Build the parser of the command that is asked for, or of all if it is none of them."""
    parser = Parser(prog=PROGRAM, description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in set(arguments[:1]) & COMMANDS.keys() or COMMANDS:
        importlib.import_module(f".{COMMANDS[name]}", __package__).add_command(commands)
    return parser


def run() -> None:
    """Run the command that this process was started with, and end the process."""
    sys.exit(main())


if __name__ == "__main__":
    run()
