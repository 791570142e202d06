"""Plain values that say what a call executed, what its work was, and what the machine can do. No torch here."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .typed import fields_and_more


@dataclass(frozen=True)
class Pass:
    """One direction of a call: aten ops with counts, the most bytes of its own alive at once, and all it allocated.

    What the forward pass leaves for the backward pass is alive in both.
    """

    ops: Mapping[str, int]
    peak_bytes: int
    allocated_bytes: int


@dataclass(frozen=True)
class Step:
    """One op that ran, and the call's own bytes alive when it was done."""

    op: str
    live_bytes: int


@dataclass(frozen=True)
class SdpaCall:
    """The arguments of a call of ``scaled_dot_product_attention`` that decide which backend serves it."""

    q: tuple[int, ...]  # shapes
    k: tuple[int, ...]
    v: tuple[int, ...]
    last_strides: tuple[int, ...]  # of q, k and v
    dtype: str
    mask: tuple[int, ...] | None = None
    mask_dtype: str | None = None
    mask_requires_grad: bool = False
    dropout: float = 0.0
    causal: bool = False
    grouped: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Compilation:
    """What ``torch.compile`` did with a call: graphs, reasons of graph breaks, and recompiles when it was repeated."""

    graphs: int
    breaks: tuple[str, ...]  # a reason each
    recompiles: int
    kernels: int


# What is wrong with results, by the field of ``Calls`` that names them. A mode follows the names of ``other_modes``.
WRONG = {
    "stale": "belongs to earlier inputs",
    "overwritten": "is memory that its next call overwrites",
    "unwritten": "depends on uninitialised memory",
    "odd_first": "is wrong at the first call of a length",
    "second_backward": "is wrong in a second backward pass",
    "other_modes": "differs",
}


@dataclass(frozen=True)
class Calls:
    """What several calls showed of one another: the names of results (``out``, ``dq``), and facts that may be unknown.

    ``kept_bytes`` stay alive with every call, ``cached_bytes`` only once, and ``garbage_bytes`` until garbage is
    collected. ``filled`` says whether fresh memory was filled to find what is ``unwritten``; of compiled code it is
    what the source asks for, not what the compiler made. ``first_call_s`` is how much longer the first call of a
    length takes.
    """

    stale: tuple[str, ...] = ()  # what belongs to earlier inputs
    overwritten: tuple[str, ...] = ()  # what a later call overwrites
    unwritten: tuple[str, ...] = ()  # what depends on uninitialised memory
    unrepeated: tuple[str, ...] = ()  # what differs, bit for bit, between calls on the same inputs
    aliased: tuple[str, ...] = ()  # what is memory of the inputs
    kept_bytes: int | None = None
    cached_bytes: int | None = None
    filled: bool = False
    compiles_each_length: bool | None = None  # looked at once for each subject that compiles
    batch_invariant: bool | None = None  # whether an item alone gets the same bits as in its batch
    odd_first: tuple[str, ...] = ()  # what the first call of a length gets wrong
    other_modes: tuple[str, ...] = ()  # what a mode changes, with the mode: "out in inference mode"
    second_backward: tuple[str, ...] = ()  # what another backward pass through the same graph gets wrong
    retains_graph: bool | None = None  # whether it can have another one
    left_changed: tuple[str, ...] = ()  # generators and switches that are not as they were before the call
    garbage_bytes: int | None = None
    first_call_s: float | None = field(default=None, compare=False)
    strides: tuple[int, ...] | None = None  # of the output; 0 along a dimension of one
    result_bytes: int | None = None  # of the memory that the output keeps alive


@dataclass(frozen=True)
class Fingerprint:
    """What ran, told without a clock. ``backend`` names the SDPA backends; ``compilation`` is None for eager code.

    ``calls`` is None where only one call was looked at, as by versions before there was such a thing. ``launches`` are
    what a GPU was given to do by one call, forward and backward, by the names of its kernels; None on CPU.
    """

    forward: Pass
    backward: Pass | None = None
    backend: str | None = None
    sdpa: tuple[SdpaCall, ...] = ()  # the different ones, in order
    compilation: Compilation | None = None
    calls: Calls | None = None
    launches: Mapping[str, int] | None = None

    @property
    def passes(self) -> tuple[Pass, ...]:
        return (self.forward,) if self.backward is None else (self.forward, self.backward)

    @property
    def ops(self) -> dict[str, int]:
        """The aten ops of both passes together."""
        return dict(sorted(sum((Counter(one.ops) for one in self.passes), Counter[str]()).items()))

    @property
    def peak_bytes(self) -> int:
        return max(one.peak_bytes for one in self.passes)

    @property
    def allocated_bytes(self) -> int:
        return sum(one.allocated_bytes for one in self.passes)

    def as_stored(self) -> dict[str, Any]:
        """Return it as JSON stores and shows it: the totals too."""
        totals = {"ops": self.ops, "peak_bytes": self.peak_bytes, "allocated_bytes": self.allocated_bytes}
        return totals | asdict(self)

    @classmethod
    def from_stored(cls, stored: object, where: str = "fingerprint") -> "Fingerprint":
        """Read what ``as_stored`` made.

        Raises:
            Unfit: it is of another version; the message names the value by ``where`` it is.

        """
        totals = {"ops": Mapping[str, int], "peak_bytes": int, "allocated_bytes": int}
        own, _ = fields_and_more(cls, stored, where, totals)
        return cls(**own)


@dataclass(frozen=True)
class OpTime:
    """How often an op ran in one call, and the time spent in it, without the ops that it calls."""

    op: str
    calls: int
    self_us: float


@dataclass(frozen=True)
class Observed:
    """What one side did in one call. ``steps`` is empty where compiled code hides them; backward begins at a step."""

    fingerprint: Fingerprint
    steps: tuple[Step, ...] = ()
    backward_at: int | None = None
    times: tuple[OpTime, ...] = ()


@dataclass(frozen=True)
class Cost:
    """The least work of a case: floating-point operations, and each byte moved once."""

    flops: int
    moved_bytes: int
    dtype: str
    device: str


@dataclass(frozen=True)
class Ceiling:
    """The machine's best speed in the same run: of a large matrix product, and of a copy larger than its caches."""

    dtype: str
    device: str
    threads: int
    flops_per_s: float
    bytes_per_s: float
