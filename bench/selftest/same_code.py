"""The attention package as base and as head: what a test of the gate on unchanged code compares."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..plain.errors import CannotDo
from ..sources.source import Source
from ..sources.target import ATTENTION
from ..suite import code
from ..suite.forked import Twins, starts_of, twins
from ..timing.environment import present_devices


@contextmanager
def same_code_twice(threads: int, device: str = "cpu") -> Iterator[tuple[Twins, Source]]:
    """Hold twins of the package as it is on disk, the base of a copy, for as long as the context lasts.

    Raises:
        CannotDo: this machine has no such device.

    """
    if device not in present_devices():
        raise CannotDo(f"--device={device}: torch sees no such device here; run where there is one")
    with TemporaryDirectory(prefix="attention-gate-") as directory:
        scratch = Path(directory)
        head = code.of_working_tree(ATTENTION)
        codes = {"head": head, "base": code.of_archive(ATTENTION, head.source, scratch)}
        with twins(starts_of(codes, ATTENTION, (device,), threads, scratch), scratch) as sides:
            yield sides, head.source
