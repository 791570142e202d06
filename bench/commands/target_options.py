"""The options by which a command is told what to compare: pytest's own, for kernels of another repository too."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..sources.target import Target, importable
from ..suite import config
from ..suite.matrix import ROWS, Rows


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--kernel", action="append", default=[], metavar="PKG.MOD:FN", help="as for pytest")
    parser.add_argument("--source", action="append", default=[], metavar="NAME", help="as for pytest")
    parser.add_argument("--gate-config", type=Path, metavar="FILE", help="as for pytest")


@contextmanager
def asked(options: argparse.Namespace) -> Iterator[tuple[Target, Rows]]:
    """Return what to compare and the rows of its matrix; while the context lasts, it can be imported.

    Raises:
        CannotDo: the file cannot be read, makes no sense, or names no kernel where the command line names none.

    """
    kernels, sources = tuple(options.kernel), tuple(options.source)
    if options.gate_config is None:
        yield Target(kernels, sources), ROWS
        return
    own = config.read(options.gate_config)
    with importable(own.folder):
        yield own.chosen(kernels, sources), own.rows
