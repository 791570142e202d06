"""The options by which a command is told what to compare: pytest's own, for kernels of another repository too."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..cases import ROWS, Row
from ..sides import config
from ..sides.what import What, importable


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--kernel", action="append", default=[], metavar="PKG.MOD:FN", help="as for pytest")
    parser.add_argument("--source", action="append", default=[], metavar="NAME", help="as for pytest")
    parser.add_argument("--gate-config", type=Path, metavar="FILE", help="as for pytest")


@contextmanager
def asked(options: argparse.Namespace) -> Iterator[tuple[What, Sequence[Row]]]:
    """Return what to compare and the rows of its matrix; while the context lasts, it can be imported.

    Raises:
        CannotDo: the file cannot be read or makes no sense.

    """
    what, rows = What(tuple(options.kernel), tuple(options.source)), ROWS
    with ExitStack() as stack:
        if options.gate_config is not None:
            own = config.read(options.gate_config)
            stack.enter_context(importable(own.folder))
            what, rows = What(what.kernels or own.what.kernels, what.sources or own.what.sources), own.rows or ROWS
        yield what, rows
