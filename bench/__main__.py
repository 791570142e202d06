"""The gate's own commands; ``--help`` lists them."""

import sys

# A file that lies where the command is given must not stand in for a module of the standard library, or of ours.
if __name__ == "__main__" and __package__ == "twinbench" and not sys.flags.safe_path:
    del sys.path[0]

import importlib
import os
import traceback
from io import TextIOWrapper
from pathlib import Path

from .plain.arguments import PROGRAM, Parser
from .plain.errors import CannotDo, CannotGoOn

# Command -> the modules that could have it, the fullest first: what pip installs is the engine alone, and lacks some.
# Only the module of the command that was given is imported: some need torch, which takes seconds.
_MODULES = {
    "bisect": ("commands.bisect_case", "commands.bisect"),
    "conformance": ("commands.conformance",),
    "demo": ("selftest.demo",),
    "explain": ("commands.explain",),
    "history": ("history.command",),
    "init": ("commands.init",),
    "margins": ("commands.margins",),
    "merge": ("commands.merge",),
    "overhead": ("study.overhead",),
    "peers": ("selftest.peers",),
    "replay": ("selftest.replay",),
    "selftest": ("selftest.of_suite", "selftest.of_tests"),
    "study": ("study.command",),
}
_HERE = Path(__file__).parent
COMMANDS = {
    name: found
    for name, modules in _MODULES.items()
    if (found := next((one for one in modules if _HERE.joinpath(*one.split(".")).with_suffix(".py").exists()), None))
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 4 it cannot be done as asked, or what the command returns.

    ``git bisect run`` takes 1 to 127 for a bad commit, and stops at 128: with ``--step``, that is the code of a command
    that is refused or fails. Where a reader of the output stops reading, it is 141, as a shell reports a process that
    SIGPIPE ended.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    stepping = not {"--step", "--ste", "--st"}.isdisjoint(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a message or a name may hold what it cannot encode
    try:
        options = parser_of(arguments).parse_args(arguments)
        exit_code: int | None = options.run(options)
        sys.stdout.flush()
    except (CannotDo, CannotGoOn) as error:
        print(f"error: {error}", file=sys.stderr)
        return 128 if stepping else 4
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes the rest at exit
        return 141
    except Exception:
        if not stepping:
            raise
        traceback.print_exc()
        return 128
    return exit_code or 0


def parser_of(arguments: list[str]) -> Parser:
    """Build the parser of the command that was given, or of all commands if it is none of them."""
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
