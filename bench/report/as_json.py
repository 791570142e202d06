"""The verdicts as JSON, schema 1: ``--gate-json``."""

import json
from dataclasses import asdict

from ..advice import advice
from ..evidence import Fingerprint, TensorError
from ..verdict import CaseResult, Run

SCHEMA = 1


def as_json(run: Run) -> str:
    """Write the run as JSON; an infinite or missing figure is null."""
    document = {
        "schema": SCHEMA,
        "base": dict(run.base),
        "head": dict(run.head),
        "environment": dict(run.environment),
        "policy": asdict(run.policy),
        "warnings": list(advice(run)),
        "load": None if run.load is None else asdict(run.load),
        "cases": [_case(case) for case in run.worst_first],
        "summary": run.summary,
        "exit_code": run.exit_code,
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _case(case: CaseResult) -> dict[str, object]:
    return {
        "id": case.id,
        "verdict": case.verdict.value,
        "ratio": case.ratio,
        "ci": list(case.ci),
        "pairs": case.pairs,
        "mde": case.mde,
        "base_ns": case.base_ns,
        "head_ns": case.head_ns,
        "error": {error.name: _error(error) for error in case.errors},
        "fingerprint": {"base": _print(case.base_fingerprint), "head": _print(case.head_fingerprint)},
        "seconds": case.seconds,
        "reasons": list(case.reasons),
    }


def _error(error: TensorError) -> dict[str, object]:
    return {
        "head": None if error.error == float("inf") else error.error,
        "base": error.base_error,
        "naive": error.naive_error,
        "budget": error.budget,
        "rms": error.rms,
        "rms_budget": error.rms_budget,
        "share": None if error.share == float("inf") else error.share,
        "bit_equal": error.bit_equal,
    }


def _print(fingerprint: Fingerprint | None) -> dict[str, object] | None:
    return None if fingerprint is None else asdict(fingerprint)
