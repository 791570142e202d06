"""The verdicts as JSON, schema 1: ``--gate-json``. It has a run's fields by name, and figures derived from them."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isinf
from typing import Any

from ..judging.advice import advice
from ..judging.roofline import achieved
from ..judging.run import Run
from ..judging.verdict import CaseResult
from ..plain.evidence import TensorError
from ..plain.execution import Ceiling, Fingerprint

SCHEMA = 1


def as_json(run: Run) -> str:
    """Write the run as JSON; an infinite or missing figure is null. The raw pairs are not in it."""
    document = {
        "schema": SCHEMA,
        **vars(run),
        "cases": [_case(case, run.ceilings) for case in run.worst_first],
        "warnings": advice(run),
        "summary": run.summary,
        "exit_code": run.exit_code,
    }
    return json.dumps(document, default=_fields, indent=2, allow_nan=False) + "\n"


def _case(case: CaseResult, ceilings: Sequence[Ceiling]) -> dict[str, Any]:
    """Return a result's own fields, and those of its evidence that are not already among its reasons and figures."""
    own = {name: value for name, value in vars(case).items() if name != "evidence"}
    return {
        "id": case.id,
        "model": case.evidence.model or None,
        **own,
        "error": {error.name: _error(error) for error in case.errors},
        "fingerprint": {"base": case.base_fingerprint, "head": case.head_fingerprint},
        "work": case.work,
        "achieved": achieved(case.work, case.head_ns, ceilings),
    }


def _error(error: TensorError) -> dict[str, Any]:
    own = {name: value for name, value in vars(error).items() if name != "name"}
    return own | {"head": _finite(error.head), "share": _finite(error.share)}


def _finite(figure: float) -> float | None:
    return None if isinf(figure) else figure


def _fields(value: Any) -> dict[str, Any]:
    return value.as_stored() if isinstance(value, Fingerprint) else asdict(value)
