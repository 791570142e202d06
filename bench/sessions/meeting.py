"""What the two twins of a session and their parent say to each other. Plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..plain.evidence import TensorError
from ..plain.execution import Fingerprint
from ..sources.world import World


@dataclass(frozen=True)
class SessionStart:
    """What a process needs to run a side's pytest session.

    ``root`` is what node ids are relative to. ``arguments`` are pytest's, before the ``files`` whose tests it collects;
    ``options`` are the values that its options get after parsing. What a twin leaves for the other, it writes to
    ``scratch``.
    """

    label: str
    world: World
    root: Path
    files: tuple[str, ...]
    arguments: tuple[str, ...]
    options: Mapping[str, Any]
    threads: int
    scratch: Path
    shuffled: bool = False  # memory is to lie elsewhere than in other twins
    installed: bool = False  # the side is what its interpreter has installed
    slowed: float | None = None  # a share by which calls are made slower, to test the gate; None: left as they are

    @property
    def result(self) -> Path:
        """Where the side leaves what its call returned, pickled."""
        return self.scratch / f"{self.label}.result"

    @property
    def temporary(self) -> Path:
        """Below which pytest makes the ``tmp_path`` of each of the side's tests."""
        return self.scratch / f"{self.label}-tmp"

    @property
    def caches(self) -> Path:
        """Where torch keeps what it compiles for the side."""
        return self.scratch / f"{self.label}-caches"


@dataclass(frozen=True)
class Collected:
    """The tests of a session by node id, each with whether it uses the fixture.

    ``errors`` say why files could not be collected. ``selected`` are those that the session would run by itself.
    """

    tests: Mapping[str, bool]
    errors: Mapping[str, str] = field(default_factory=dict)  # by the collector's node id
    selected: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Own:
    """What a test asks for itself by ``@pytest.mark.gate``. ``threshold`` is a share: 0.02 = 2%.

    ``compare``: its results are compared with the base's, which a reference makes needless.
    """

    threshold: float | None = None
    compare: bool = True


@dataclass(frozen=True)
class Arrived:
    """A test has called ``benchmark``, and waits there.

    ``kind`` is the name of the type that the call returned; ``unsaved`` says why what it returned cannot be compared
    with the other side's; ``left`` are digests of what can be. ``errors`` are those around a reference, if the test
    names one. ``fingerprint`` is what a call executed, where torch is loaded; ``unobserved`` says why there is none
    then.
    """

    own: Own
    kind: str
    unsaved: str | None = None
    left: Mapping[str, bytes] = field(default_factory=dict)
    errors: tuple[TensorError, ...] = ()
    fingerprint: Fingerprint | None = None
    unobserved: str | None = None


@dataclass(frozen=True)
class Finished:
    """A test is over, with the reports of its phases as pytest serialises them.

    ``raised`` is what the first call of the fixture raised, even if the test expected that. ``in_use``: it failed
    because of something that another process may use, such as a port.
    """

    reports: tuple[dict[str, Any], ...]
    raised: str | None = None
    in_use: bool = False


Step = Arrived | Finished
