"""What the study's parts found, as plain values that JSON can hold. No torch here."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

PAIRED_NS = "ns a call, in interleaved rounds"
PROTOCOL_NS = "ns a call, by the study's protocol"
CALL_NS = "ns of the first, second, ... call"
PEAK_BYTES = "peak of live bytes"
DIFFERENCE = "largest difference from PyTorch"
MEAN_DIFFERENCE = "mean difference from PyTorch"
CLOSE = "allclose to PyTorch"
ERROR = "largest error from the float64 oracle"


@dataclass(frozen=True)
class Series:
    """All values of one quantity of one subject, in the order in which they were taken; or why there are none.

    ``case`` is shape, mask, dtype and direction: ``b8h4t512d64-causal-fp16-fwd``. Series of one part and quantity that
    hold ``PAIRED_NS`` were taken in the same rounds: values of equal index are neighbours in time.
    """

    part: str
    device: str
    subject: str
    case: str
    quantity: str
    values: tuple[float, ...] = ()
    missing: str | None = None


@dataclass(frozen=True)
class Results:
    """Every series of the parts that are finished."""

    series: tuple[Series, ...] = ()

    def where(self, **fields: str) -> list[Series]:
        """The series whose fields have these values, measured or not, in a stable order."""
        return [s for s in self.series if all(getattr(s, name) == value for name, value in fields.items())]

    def one(self, **fields: str) -> Series | None:
        """The one series whose fields have these values; None if no part took it."""
        found = self.where(**fields)
        assert len(found) <= 1, found
        return found[0] if found else None

    def subjects(self, **fields: str) -> list[str]:
        """The subjects of the series whose fields have these values, each once, in the order in which they came."""
        return list(dict.fromkeys(s.subject for s in self.where(**fields)))


def to_json(series: Iterable[Series]) -> list[dict[str, Any]]:
    return [asdict(s) for s in series]


def from_json(entries: Iterable[Mapping[str, Any]]) -> list[Series]:
    return [Series(**{**entry, "values": tuple(entry["values"])}) for entry in entries]
