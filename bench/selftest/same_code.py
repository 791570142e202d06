"""The attention package as base and as head: what a test of the gate on unchanged code compares."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..sources.source import Source
from ..sources.target import ATTENTION
from ..suite import code
from ..suite.forked import Twins, starts_of, twins


@contextmanager
def same_code_twice(threads: int, device: str = "cpu") -> Iterator[tuple[Twins, Source]]:
    """Hold twins of the package as it is on disk, the base of a copy, for as long as the context lasts."""
    with TemporaryDirectory(prefix="attention-gate-") as directory:
        scratch = Path(directory)
        head = code.of_working_tree(ATTENTION)
        codes = {"head": head, "base": code.of_archive(ATTENTION, head.source, scratch)}
        with twins(starts_of(codes, ATTENTION, (device,), threads, scratch), scratch) as sides:
            yield sides, head.source
