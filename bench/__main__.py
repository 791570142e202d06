"""The instrument's own commands: ``python -m bench COMMAND``; ``--help`` lists them."""

import argparse
import importlib
import sys

from .errors import CannotCompare

# Name -> module. Only the one that is asked for is imported: not all of them need torch, which takes seconds.
COMMANDS = {
    "explain": "explain",
    "history": "history_report",
    "margins": "margins",
    "merge": "merge_command",
    "overhead": "overhead",
    "record": "record",
    "replay": "replay_report",
    "selftest": "selftest",
    "study": "study.command",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 4 it cannot be done as asked; of merge, that of the run."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in set(arguments[:1]) & COMMANDS.keys() or COMMANDS:
        importlib.import_module(f".{COMMANDS[name]}", __package__).add_command(commands)
    options = parser.parse_args(arguments)
    try:
        exit_code: int | None = options.run(options)
    except CannotCompare as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    return exit_code or 0


if __name__ == "__main__":
    sys.exit(main())
