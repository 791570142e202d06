"""The raw pairs of a run as JSON, written by ``--gate-pairs`` and read back to be replayed. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired

from ..judging.run import Run
from ..plain.errors import CannotDo
from ..plain.evidence import Measurement, Pair, Plain
from ..plain.strict_json import dumps, loads
from ..plain.typed import Unfit, fields_and_more, typed

SCHEMA = 1


def as_pairs(run: Run) -> str:
    """Write every pair of every measurement: ``[base_ns_per_call, head_ns_per_call]``, in the order taken."""
    cases = [
        {
            "id": case.id,
            "measurements": [
                {
                    "calls_per_burst": m.calls_per_burst,
                    "warmup_rounds": m.warmup_rounds,
                    "seconds": round(m.seconds, 6),
                    "pairs": [[round(p.base_ns_per_call), round(p.head_ns_per_call)] for p in m.pairs],
                }
                for m in case.measurements
            ],
        }
        for case in run.cases
        if case.measurements
    ]
    document = {"schema": SCHEMA, "environment": dict(run.environment), "cases": cases}
    return dumps(document, separators=(",", ":"))


@dataclass(frozen=True)
class Recorded:
    """The measurements of one case."""

    id: str
    measurements: tuple[Measurement, ...]


def read(path: Path) -> dict[str, tuple[Measurement, ...]]:
    """Read the measurements of every case of a recording, by case id.

    Raises:
        CannotDo: not a recording of this schema, or one without pairs.

    """
    form = {"schema": int, "environment": NotRequired[Mapping[str, Plain]], "cases": tuple[Recorded, ...]}
    try:
        document = typed(form, loads(path.read_text(encoding="utf-8")), "it", {Pair: _pair, Measurement: _measurement})
        recorded = {case.id: case.measurements for case in document["cases"]}
        if document["schema"] != SCHEMA or not recorded or not all(recorded.values()):
            raise Unfit(f"its schema is not {SCHEMA}, or measurements are missing")  # noqa: TRY301  # one message
    except (OSError, ValueError, RecursionError, Unfit) as error:
        raise CannotDo(f"{path} is no recording of --gate-pairs ({error}): record it anew") from error
    return recorded


def _measurement(value: object, where: str) -> Measurement:
    own, _ = fields_and_more(Measurement, value, where, {}, readers={Pair: _pair})
    measurement = Measurement(**own)
    if not measurement.pairs or measurement.calls_per_burst < 1:
        raise Unfit(f"{where} has no pairs, or a burst without calls")
    return measurement


def _pair(value: object, where: str) -> Pair:
    times = typed(tuple[float, float], value, where)
    if min(times) < 1:
        raise Unfit(f"{where} has a time below 1 ns")
    return Pair(*times)
