"""The raw pairs of a run as JSON, written by ``--gate-pairs`` and read back to be replayed. Pure."""

import json
from math import inf
from pathlib import Path
from typing import Any

from ..judging.run import Run
from ..plain.errors import CannotDo
from ..plain.evidence import Measurement, Pair
from ..plain.strict_json import dumps

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


def read(path: Path) -> dict[str, tuple[Measurement, ...]]:
    """Read the measurements of every case of a recording, by case id.

    Raises:
        CannotDo: not a recording of this schema, or one without pairs.

    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document["schema"] == SCHEMA, f"schema is {document['schema']!r}, not {SCHEMA}"
        recorded = {case["id"]: tuple(map(_measurement, case["measurements"])) for case in document["cases"]}
        assert recorded, "no case is in it"
        assert all(recorded.values()), "a case has no measurement"
    except Exception as error:
        raise CannotDo(f"{path} is no recording of --gate-pairs ({error!r}): record it anew") from error
    return recorded


def _measurement(stored: Any) -> Measurement:
    times = [(float(base), float(head)) for base, head in stored["pairs"]]
    assert times, "a measurement has no pairs"
    assert all(1 <= ns < inf for pair in times for ns in pair), "a time is not one of 1 ns or more"
    assert stored["calls_per_burst"] >= 1, "a burst has no calls"
    pairs = tuple(Pair(base, head) for base, head in times)
    return Measurement(pairs, stored["calls_per_burst"], stored["seconds"], stored["warmup_rounds"])
