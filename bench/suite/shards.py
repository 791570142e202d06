"""What each case of the matrix costs, by which shards are dealt evenly."""

from collections.abc import Mapping
from pathlib import Path

from ..judging.statistics import median
from ..sources import baseline
from ..timing.measure import BURST_NS
from .cases import Case
from .cost import cost_of

STORAGE = Path(__file__).parents[2] / ".benchmarks"
_FLOPS_PER_SECOND = 1e10  # where no stored case is known
_UNTIMED = 0.1  # of the cost of the quickest timed case


def seconds_stored(storage: Path = STORAGE) -> Mapping[str, float]:
    """Return the seconds per call of the baseline that ships with the repository, by case id; nothing if none does.

    Not those of the latest baseline on this machine: every shard must see the same figures.
    """
    shipped = sorted(storage.glob("*/*_shipped.json"))
    return baseline.read(shipped[-1]).seconds if shipped else {}


def costs(cases: Mapping[Case, str | None], stored: Mapping[str, float]) -> dict[str, float]:
    """Estimate what each case costs, by id, in seconds a burst: all need about equally many, however long a call takes.

    A case without a stored time is assumed to do its arithmetic at the median rate of the others. One that is not timed
    costs little, and one that cannot run (its value is the reason) nothing.
    """

    def cost(case: Case) -> float:
        if not case.timed:
            return _UNTIMED * BURST_NS * 1e-9
        return max(BURST_NS * 1e-9, stored.get(case.id) or cost_of(case).flops / rate)

    rates = sorted(cost_of(case).flops / stored[case.id] for case in cases if stored.get(case.id))
    rate = median(rates) if rates else _FLOPS_PER_SECOND
    return {case.id: cost(case) if unsupported is None else 0.0 for case, unsupported in cases.items()}
