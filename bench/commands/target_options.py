"""The options that say what a command compares: the same as pytest's, for kernels of another repository."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..sources.target import Target, importable
from ..suite import config
from ..suite.config import GateConfig
from ..suite.matrix import ROWS, Rows


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--kernel", action="append", default=[], metavar="PKG.MOD:FN", help="as for pytest")
    parser.add_argument("--source", action="append", default=[], metavar="NAME", help="as for pytest")
    parser.add_argument("--gate-config", type=Path, metavar="FILE", help="as for pytest")


@contextmanager
def asked(options: argparse.Namespace) -> Iterator[tuple[Target, Rows, GateConfig | None]]:
    """Yield the target, the rows of its matrix, and its file; it can be imported while the context lasts.

    Raises:
        CannotDo: the file cannot be read or makes no sense, or neither it nor the command line names a kernel.

    """
    kernels, sources = tuple(options.kernel), tuple(options.source)
    if options.gate_config is None:
        yield Target(kernels, sources), ROWS, None
        return
    own = config.read(options.gate_config)
    with importable(own.folder):
        yield own.chosen(kernels, sources), own.rows, own
