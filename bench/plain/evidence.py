"""Plain values that pass from measuring to judging. No torch here."""

from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import sha256
from math import log

from .execution import Cost, Fingerprint

Plain = str | int | float | bool | None  # describes a side or a machine in values that JSON has


@dataclass(frozen=True)
class Pair:
    """One burst of base calls and one of head calls, taken next to each other."""

    base_ns_per_call: float
    head_ns_per_call: float

    @property
    def log_ratio(self) -> float:
        """``log(head / base)``: above zero, the head side is slower."""
        return log(self.head_ns_per_call / self.base_ns_per_call)


@dataclass(frozen=True)
class Measurement:
    """All pairs of one case, in the order in which they were taken, and the number of rounds of warming up before."""

    pairs: tuple[Pair, ...]
    calls_per_burst: int
    seconds: float
    warmup_rounds: int = 0

    @property
    def ordered(self) -> list[float]:
        """The log-ratios of the pairs, sorted, as the test takes them."""
        return sorted(pair.log_ratio for pair in self.pairs)

    @property
    def timed_seconds(self) -> float:
        """The time inside the timed calls of the pairs."""
        return sum(p.base_ns_per_call + p.head_ns_per_call for p in self.pairs) * self.calls_per_burst * 1e-9


@dataclass(frozen=True)
class Timing:
    """How fast a case is: ``measurements`` has more entries where the first was not clear.

    ``replication`` has a pair for each of some pairs of twins, where the measurements could be chance of the memory.
    """

    measurements: tuple[Measurement, ...] = ()
    replication: Measurement | None = None

    @property
    def seconds(self) -> float:
        return sum(one.seconds for one in (*self.measurements, *([self.replication] if self.replication else [])))


@dataclass(frozen=True)
class Load:
    """What else the machine did while it measured, in cores; ``clock_share`` is the clock's share of its maximum."""

    cores: int
    other_cores: float
    stolen_cores: float
    clock_share: float | None  # None where the system does not tell

    def __str__(self) -> str:
        """Describe it in a clause for reports."""
        clock = "" if self.clock_share is None else f", the clock ran at {self.clock_share:.0%} of its maximum"
        return (
            f"other processes kept {self.other_cores:.1f} of {self.cores} cores busy, the hypervisor took "
            f"{self.stolen_cores:.1f}{clock}"
        )


@dataclass(frozen=True)
class Place:
    """A line of a file of the repository."""

    file: str  # relative to the repository's root, with forward slashes
    line: int  # from 1


@dataclass(frozen=True)
class Shard:
    """Which part of the matrix a run is, the ``index``-th of ``count`` from 1, and the whole that it is a part of."""

    index: int
    count: int
    tier: str
    cases: int  # of all shards together
    cases_sha256: str  # of their sorted ids

    @classmethod
    def of(cls, index: int, count: int, tier: str, ids: Collection[str]) -> "Shard":
        """Describe a part of the run whose shards together have the cases with these ids."""
        return cls(index, count, tier, len(ids), sha256("\n".join(sorted(ids)).encode()).hexdigest())


@dataclass(frozen=True)
class TensorError:
    """How far one output or gradient is from the float64 oracle, and how far it may be; absolute maxima.

    ``head`` is infinite where shape or dtype are wrong; ``naive`` and ``base`` are the yardstick's and the base's own.
    ``rms`` and ``rms_budget`` say the same of the root of the mean square, which sees what is off a little everywhere.
    """

    name: str
    head: float
    naive: float
    budget: float
    rms: float = 0.0
    rms_budget: float = 0.0
    complaints: tuple[str, ...] = ()
    base: float | None = None
    bit_equal: bool | None = None

    @property
    def share(self) -> float:
        """The error or the RMS error as a share of its budget, whichever is larger; above 1 it is over budget."""
        return max(_share(self.head, self.budget), _share(self.rms, self.rms_budget))


def _share(error: float, budget: float) -> float:
    return error / budget if budget > 0 else 0.0 if error == 0 else float("inf")


@dataclass(frozen=True)
class Evidence:
    """All that was found out about one case; ``measurements`` are as in ``Timing``.

    At most one of ``error``, ``skipped`` and ``missing`` is set, and says why there is nothing else. A case that is not
    ``timed`` was checked on both sides and has no measurements. ``model`` names the model that it stands for.
    ``replication`` is as in ``Timing``. ``host`` is the host's time to make a call, where the measurements are of a
    device's. ``differs`` says how the head's result differs from the base's, where that is what is compared;
    ``remarks`` are what a reader of the row must know.
    """

    case_id: str
    error: str | None = None
    skipped: str | None = None
    missing: str | None = None
    new: bool = False
    timed: bool = True
    model: str = ""
    errors: tuple[TensorError, ...] = ()
    base_fingerprint: Fingerprint | None = None
    head_fingerprint: Fingerprint | None = None
    work: Cost | None = None
    measurements: tuple[Measurement, ...] = field(default=())
    replication: Measurement | None = None
    host: Timing | None = None
    differs: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def timing(self) -> Timing:
        """How fast the case is, by the clock of its device."""
        return Timing(self.measurements, self.replication)
