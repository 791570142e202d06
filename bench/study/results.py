"""What the study's parts found, as plain values. No torch here."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..suite.cases import Case


class Quantity(StrEnum):
    """What the values of a series are."""

    PAIRED_NS = "ns a call, in interleaved rounds"
    PROTOCOL_NS = "ns a call, by the study's protocol"
    CALL_NS = "ns of the first, second, ... call"
    PEAK_BYTES = "peak of live bytes"
    DIFFERENCE = "largest difference from PyTorch"
    MEAN_DIFFERENCE = "mean difference from PyTorch"
    CLOSE = "allclose to PyTorch"
    ERROR = "largest error from the float64 oracle"


class NotMeasured(Exception):
    """Something was not or cannot be measured; the message says why."""


@dataclass(frozen=True)
class Series:
    """All values of one quantity of one case, in the order in which they were taken; or why there are none.

    Series of one part that hold ``PAIRED_NS`` were taken in the same rounds: values of equal index are neighbours in
    time.
    """

    part: str
    case: "Case"
    quantity: Quantity
    values: tuple[float, ...] = ()
    missing: str = ""

    @property
    def device(self) -> str:
        return self.case.device

    @property
    def subject(self) -> str:
        return self.case.subject

    @property
    def tokens(self) -> int:
        return self.case.shape.queries

    @property
    def heads(self) -> int:
        return self.case.shape.heads


@dataclass(frozen=True)
class Results:
    """Every series of the parts that have run."""

    series: tuple[Series, ...] = ()

    def where(self, **fields: object) -> list[Series]:
        """The series whose fields and properties have these values, measured or not, in a stable order."""
        return [s for s in self.series if all(getattr(s, name) == value for name, value in fields.items())]

    def values(self, *, subject: str, **fields: object) -> tuple[float, ...]:
        """The values of a subject's only series with these fields; raises NotMeasured where there are none."""
        found = self.where(subject=subject, **fields)
        if not found or not found[0].values:
            raise NotMeasured(f"{subject} was not measured: {found[0].missing if found else 'not asked for'}")
        return found[0].values

    def by_subject(self, **fields: object) -> dict[tuple[str, str], list[Series]]:
        """The series whose fields have these values, by device and subject, in a stable order."""
        found: dict[tuple[str, str], list[Series]] = {}
        for series in self.where(**fields):
            found.setdefault((series.device, series.subject), []).append(series)
        return found
