"""The instrument's own commands: ``python -m bench COMMAND``; ``--help`` lists them."""

import argparse
import sys
from pathlib import Path

from . import explain, history_report, margins, merge_command, overhead, record, recording, replay_report, selftest
from .errors import CannotCompare
from .study import command as study


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 4 it cannot be done as asked; of merge, that of the run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    replaying = commands.add_parser("replay", help="judge the decision rules on recorded noise")
    replaying.add_argument("recording", type=Path, help="what record or --gate-pairs wrote")
    replaying.add_argument("--runs", type=int, default=1000, help="simulated runs (default %(default)s)")
    replaying.add_argument("--threshold", type=float, default=5.0, help="in percent (default %(default)g)")
    replaying.set_defaults(
        run=lambda o: replay_report.main(recording.read(o.recording), runs=o.runs, threshold=o.threshold / 100)
    )
    explain.add_command(commands)
    history_report.add_command(commands)
    margins.add_command(commands)
    merge_command.add_command(commands)
    overhead.add_command(commands)
    record.add_command(commands)
    selftest.add_command(commands)
    study.add_command(commands)
    options = parser.parse_args(arguments)
    try:
        exit_code: int | None = options.run(options)
    except CannotCompare as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    return exit_code or 0


if __name__ == "__main__":
    sys.exit(main())
