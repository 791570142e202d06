"""What a run is compared with: the base that was asked for, found and loaded beside the head, and what is accepted."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from . import pytest_benchmark_adapter
from .gate import Gate
from .judging import waivers
from .judging.waivers import Exceptions
from .options import Settings
from .plain.errors import CannotDo
from .sides import baseline, source
from .sides.base import loaded, stored_only
from .sides.baseline import Baseline
from .sides.reach import refuse_code_outside
from .sides.repository import commit_of, top_level
from .sides.side import base_side
from .sides.source import Source
from .sides.what import place_of
from .timing.remote import interpreter
from .timing.witness import witness


@contextmanager
def with_base(
    gate: Gate, settings: Settings, head_source: Source, here: Mapping[str, object], config: pytest.Config
) -> Iterator[Gate]:
    """Give a gate the base that was asked for, and a witness if both sides are in this process.

    ``here`` describes this process. What is loaded lives as long as the context.

    Raises:
        CannotDo: the base cannot be had, or a side needs code that is not part of its source.

    """
    base_source, stored = _find(settings, head_source, config)
    if settings.base_python is not None:
        base = replace(stored_only(base_source, stored, here), environment=interpreter(settings.base_python))
        yield replace(gate, base=base)
        return
    what, devices = settings.what, settings.devices
    place = place_of(what.names[0])
    repository = top_level(place) or place
    _refuse_code_beside(head_source, settings, repository)
    with ExitStack() as resources:
        enter = resources.enter_context
        home = Path(enter(TemporaryDirectory(prefix="attention-gate-")))  # of both sides, in every process
        threads = settings.threads
        alone = enter(witness(base_source, head_source, what, repository=repository, threads=threads, scratch=home))
        base = enter(loaded(base_source, stored, here, repository, what=what, devices=devices, home=home))

        @cache
        def anew() -> Gate:
            """Load both sides once more, the base first, as copies that live until the session ends."""
            base_anew, head_anew = (
                enter(base_side(packed, label, what=what, devices=devices, home=home))
                for label, packed in (("base", base_source), ("head", head_source))
            )
            return replace(gate, head=head_anew, base=replace(base, side=base_anew))

        yield replace(gate, base=base, witness=alone, anew=anew)


def accepted(settings: Settings, known: Collection[str]) -> Exceptions:
    """Read what is accepted of the head: waivers and thresholds of single cases, whose ids must be known.

    Raises:
        CannotDo: an entry does not hold.

    """
    today = date.today()  # noqa: DTZ011  # a day where the user is
    if settings.config is not None:
        return waivers.entries(settings.config.file, known, today)
    # The file of the suite is about its own kernels.
    return Exceptions() if settings.what.kernels else waivers.read(waivers.WAIVERS, known, today)


def lasting_base(settings: Settings) -> str | None:
    """Return the base that was asked for; a revision by its commit, since a name such as HEAD moves on."""
    if settings.base is None:
        return None
    place = place_of(settings.what.names[0])
    name, _ = source.choice(place, settings.base)
    return name if Path(name).is_dir() else commit_of(place, name)[:12]


def _find(settings: Settings, head_source: Source, config: pytest.Config) -> tuple[Source, Baseline | None]:
    """Find the source that was asked for, and the stored baseline that it is from, if it is."""
    if settings.base is not None:
        names = settings.what.names
        name, why = source.choice(place_of(names[0]), settings.base)
        found = source.find(place_of(names[0]), name, names)
        return replace(found, origin=f"{found.origin}{why}"), None
    if not settings.compare:  # another interpreter: its own packages of a named kernel, else this code
        own = source.installed(f"packages of {settings.base_python}")
        return (own if settings.what.kernels else head_source), None
    stored = baseline.read(pytest_benchmark_adapter.find_baseline(config, settings.compare))
    if missing := set(settings.what.packages) - stored.source.names:
        raise CannotDo(
            f"the source in {stored.source.origin} holds no {min(missing)}: store the baseline anew, with the same "
            "--kernel"
        )
    return stored.source, stored


def _refuse_code_beside(head_source: Source, settings: Settings, repository: Path) -> None:
    """Refuse a head that imports code of its repository which is not part of its source."""
    with TemporaryDirectory(prefix="attention-head-") as unpacked:
        head_source.unpack(Path(unpacked))
        files = sorted(Path(unpacked).rglob("*.py"))
        refuse_code_outside(files, settings.what.names, repository, "the head")
