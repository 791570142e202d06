"""``merge``: joins what ``--gate-json`` wrote in each shard, and reports it as one run."""

import argparse
from pathlib import Path
from typing import Any

from ..judging.merge import merge
from ..judging.run import Run
from ..plain.errors import CannotDo
from ..report import formats
from ..report.from_json import from_json
from ..report.terminal import write_table


def add_command(commands: Any) -> None:
    """Declare ``merge`` among the commands of the command line."""
    parser = commands.add_parser("merge", help="join what --gate-json wrote in each shard into one verdict")
    parser.add_argument("shards", type=Path, nargs="+", metavar="SHARD.json", help="one of each shard, in any order")
    formats.declare(parser, "the joined verdicts")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Join the shards, report, and return the exit code that one run over all cases would have had.

    Raises:
        CannotDo: the files cannot be read, are not the shards of one run, or a report cannot be written.

    """
    formats.check(formats.asked(options))
    merged = merge({str(path): _read(path) for path in options.shards})
    write_table(merged, _Output())
    formats.write_asked(merged, options)
    print(merged.closing_line)
    return merged.exit_code


class _Output:
    """Standard output as a ``Terminal``."""

    def section(self, title: str, sep: str = "=", **_: bool) -> None:
        print(f" {title} ".center(80, sep))

    def write_line(self, line: str, **_: bool) -> None:
        print(line)


def _read(path: Path) -> Run:
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CannotDo(f"{path} cannot be read ({error}): name what --gate-json wrote in each shard") from error
    except CannotDo as error:
        raise CannotDo(f"{path}: {error}") from error
