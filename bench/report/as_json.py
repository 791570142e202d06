"""The verdicts as JSON, schema 1: ``--gate-json``. It has a run's fields by name, and figures derived from them."""

from collections.abc import Sequence
from typing import Any

from ..judging.advice import advice
from ..judging.roofline import achieved
from ..judging.run import Run
from ..judging.verdict import CaseResult
from ..plain.execution import Ceiling
from ..plain.strict_json import dumps

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
    return dumps(document, indent=2)


def _case(case: CaseResult, ceilings: Sequence[Ceiling]) -> dict[str, Any]:
    """Return a result's own fields, and those of its evidence that are not already among its reasons and figures."""
    sides = {"base": case.base_fingerprint, "head": case.head_fingerprint}
    return {
        "id": case.id,
        "model": case.evidence.model or None,
        **_without("evidence", case),
        "error": {error.name: _without("name", error) | {"share": error.share} for error in case.errors},
        "fingerprint": {side: None if one is None else one.as_stored() for side, one in sides.items()},
        "work": case.work,
        "achieved": achieved(case.work, case.head_ns, ceilings),
    }


def _without(field: str, value: object) -> dict[str, Any]:
    return {name: own for name, own in vars(value).items() if name != field}
