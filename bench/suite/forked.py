"""Twins: base and head as processes forked from one image, which take turns on the same cores while they are timed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..plain.evidence import Measurement
from ..sources.target import SUITE, Target
from ..timing.measure import StoppingRule
from ..twins.bursts import measure_twins
from ..twins.fork import fork_to_serve, start_server
from ..twins.parties import Parties
from ..twins.party import Remote
from .code import PackageCode
from .examiner import Examiner
from .sides import notes_of
from .worker import Start, Worker

IMAGE = f"{__package__}.image"  # of the suite's sides

LayOut = Callable[[Path], PackageCode]  # finds code, and lays it out in a scratch folder where it has to be


def starts_of(
    codes: Mapping[str, PackageCode],
    target: Target,
    devices: tuple[str, ...],
    threads: int,
    scratch: Path,
    **more: bool,
) -> dict[str, Start]:
    """Return what the processes of sides need, by label; ``more`` are fields of ``Start``."""
    return {
        label: Start(label, one.source.origin, one.world, target, devices, threads, scratch / f"caches-{label}", **more)
        for label, one in codes.items()
    }


def fork_examiner(threads: int) -> Remote:
    """Fork an examiner, without waiting until it is ready: its first answer says that."""
    start_server(IMAGE, threads=threads)
    party = fork_to_serve("the check", Examiner)
    party.send("load", SUITE, threads)
    return party


@dataclass
class Twins:
    """Head and base, if there is one, and the examiner, each a process of its own that is replaced when it ends.

    ``order`` says which side is forked first.
    """

    starts: dict[str, Start]  # by label
    scratch: Path
    order: tuple[str, ...] = ("head", "base")

    def __post_init__(self) -> None:
        labels = ("examiner", *(label for label in self.order if label in self.starts))
        self.parties = Parties(labels, self._fork, ", when it was loaded: choose one that loads here")

    def _fork(self, label: str) -> Remote:
        if label == "examiner":
            return fork_examiner(self.starts["head"].threads)
        party = fork_to_serve(label, Worker)
        party.send("load", self.starts[label])
        return party

    @property
    def notes(self) -> tuple[str, ...]:
        return notes_of(*(party for party in self.parties.living if party is not self.examiner))

    @property
    def head(self) -> Remote:
        return self.parties["head"]

    @property
    def base(self) -> Remote | None:
        return self.parties["base"] if "base" in self.starts else None

    @property
    def examiner(self) -> Remote:
        return self.parties["examiner"]

    def ready(self) -> None:
        """Fork what does not live.

        Raises:
            CannotDo: a side does not load.

        """
        self.parties.ready()

    def measure(self, rule: StoppingRule, budget_s: float, *, host: bool = False) -> Measurement:
        """Time both sides in turn, on the same cores as this process, so that every burst follows the same switch."""
        assert self.base is not None  # a case without a base is not measured
        return measure_twins(self.base, self.head, rule, budget_s, self.starts["head"].threads, host=host)

    @contextmanager
    def again(self) -> Iterator["Twins"]:
        """Fork another pair, in the other order, whose memory lies elsewhere."""
        starts = {label: replace(start, shuffled=True) for label, start in self.starts.items()}
        with twins(starts, self.scratch, self.order[::-1]) as others:
            yield others

    def slow_down(self, shares: Mapping[str, float | None]) -> None:
        """Make calls of the sides take longer by shares, here and where a slowdown is confirmed; for the self-test."""
        for label, share in shares.items():
            self.starts[label] = replace(self.starts[label], slowdown=share)
            self.parties[label].ask("slow_down", share)

    def close(self) -> None:
        self.parties.close()


@contextmanager
def twins(starts: dict[str, Start], scratch: Path, order: tuple[str, ...] = Twins.order) -> Iterator[Twins]:
    """Hold twins for as long as the context lasts.

    Raises:
        CannotDo: a side does not load.

    """
    with closing(Twins(starts, scratch, order)) as held:
        held.ready()
        yield held


@contextmanager
def opened(
    codes: Mapping[str, LayOut], target: Target, devices: tuple[str, ...], threads: int
) -> Iterator[tuple[Twins, Mapping[str, PackageCode]]]:
    """Hold twins of code that is laid out in a scratch folder, by label, for as long as the context lasts.

    Raises:
        CannotDo: some code cannot be had, or does not load.

    """
    with TemporaryDirectory(prefix="attention-gate-") as directory:
        scratch = Path(directory)
        laid_out = {label: lay_out(scratch) for label, lay_out in codes.items()}
        with twins(starts_of(laid_out, target, devices, threads, scratch), scratch) as sides:
            yield sides, laid_out
