"""The raw pairs of a run as JSON, written by ``--gate-pairs`` and read back to be replayed. Pure."""

import json
from pathlib import Path

from .errors import CannotCompare
from .evidence import Measurement, Pair
from .verdict import Run

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
    return json.dumps(document, separators=(",", ":")) + "\n"


def read(path: Path) -> dict[str, Measurement]:
    """Read the first measurement of every case of a recording, by case id.

    Raises:
        CannotCompare: not a recording of this schema.

    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document["schema"] == SCHEMA, f"schema is {document['schema']!r}, not {SCHEMA}"
        firsts = {case["id"]: case["measurements"][0] for case in document["cases"]}
        return {
            case_id: Measurement(
                tuple(Pair(float(base), float(head)) for base, head in first["pairs"]),
                first["calls_per_burst"],
                first["seconds"],
                first["warmup_rounds"],
            )
            for case_id, first in firsts.items()
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, AssertionError, RecursionError) as error:
        raise CannotCompare(f"{path} is no recording of --gate-pairs ({error!r}): record it anew") from error
