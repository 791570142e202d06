"""Finds head and base and starts them as processes."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from . import pytest_benchmark_adapter
from .options import Settings
from .plain.errors import CannotDo
from .sources import baseline, source
from .sources.baseline import Baseline
from .sources.repository import commit_of
from .sources.target import SUITE, place_of
from .suite import code
from .suite.base import Base
from .suite.code import PackageCode
from .suite.forked import IMAGE, Twins, starts_of, twins
from .suite.pairs import process_pairs
from .suite.sides import Sides
from .suite.worker import Start
from .twins.fork import start_server
from .twins.interpreter import interpreter


@dataclass(frozen=True)
class Compared:
    """Both sides in their processes, and what is known of them."""

    sides: Sides
    base: Base
    head: PackageCode


@contextmanager
def compared(settings: Settings, here: Mapping[str, object], config: pytest.Config) -> Iterator[Compared]:
    """Find and start head and base for as long as the context lasts; ``here`` describes this process.

    Raises:
        CannotDo: head or base cannot be found or started.

    """
    start_server(IMAGE, threads=settings.threads)  # the server imports torch while git works here
    with TemporaryDirectory(prefix="attention-gate-") as directory:
        scratch = Path(directory)
        head = code.of_head(settings.target, _gated(settings))
        if settings.base_python is not None:
            found, stored = _base_of_another_interpreter(settings, head, config)
            base = replace(Base.of(found, stored, here), environment=interpreter(settings.base_python, ("torch",)))
            codes = {"base": code.alone(found, scratch), "head": code.alone(head.source, scratch)}
            starts = _starts(settings, codes, scratch, warm=True)
            with process_pairs(settings.base_python, starts, scratch) as pairs:
                yield Compared(pairs, base, head)
            return
        base_code, stored = _base(settings, scratch, config)
        base = Base.of(base_code.source, stored, here)
        codes = {"head": head, "base": base_code}
        with _loaded(_starts(settings, codes, scratch), scratch, base) as (sides, known):
            yield Compared(sides, known, head)


@contextmanager
def _loaded(starts: dict[str, Start], scratch: Path, base: Base) -> Iterator[tuple[Twins, Base]]:
    """Start twins, or the head alone if the base does not load and has stored fingerprints to stand in for it."""
    with ExitStack() as stack:
        try:
            sides = stack.enter_context(twins(starts, scratch))
        except CannotDo as refused:
            if not base.stored_fingerprints:
                raise
            # Without times no case can pass, but what the head executes is still compared. A head that does not load
            # is refused now.
            sides = stack.enter_context(twins({"head": starts["head"]}, scratch))
            base = replace(base, error=str(refused))
        yield sides, base


def _starts(
    settings: Settings, codes: Mapping[str, PackageCode], scratch: Path, *, warm: bool = False
) -> dict[str, Start]:
    target, devices, threads = settings.target, settings.devices, settings.threads
    return starts_of(codes, target, devices, threads, scratch, graphs=settings.graphs, warm=warm)


def _gated(settings: Settings) -> Path:
    """Return a folder of the checkout that is gated."""
    if settings.config is not None:
        return settings.config.folder
    return Path.cwd() if settings.target.kernels else SUITE


def lasting_base(settings: Settings) -> str | None:
    """Return the base that was asked for; a revision by its commit, since a name such as HEAD moves on."""
    if settings.base is None:
        return None
    place = place_of(settings.target.names[0])
    name, _ = source.choice(place, settings.base)
    return name if Path(name).is_dir() else commit_of(place, name)[:12]


def _base(settings: Settings, scratch: Path, config: pytest.Config) -> tuple[PackageCode, Baseline | None]:
    """Find the base that was asked for, and the stored baseline that it comes from, if any."""
    if settings.base is None:
        stored = baseline.read(pytest_benchmark_adapter.find_baseline(config, settings.compare))
        return code.of_archive(settings.target, stored.source, scratch), stored
    name, why = source.choice(place_of(settings.target.names[0]), settings.base)
    found = code.of_name(settings.target, name, scratch)
    return replace(found, source=replace(found.source, origin=f"{found.source.origin}{why}")), None


def _base_of_another_interpreter(
    settings: Settings, head: PackageCode, config: pytest.Config
) -> tuple[source.Source, Baseline | None]:
    if settings.base is None and not settings.compare:  # a named kernel: as it is installed there; else the head's code
        own = source.installed(f"packages of {settings.base_python}")
        return (own if settings.target.kernels else head.source), None
    with TemporaryDirectory(prefix="attention-base-") as scratch:
        found, stored = _base(settings, Path(scratch), config)
        return found.source, stored
