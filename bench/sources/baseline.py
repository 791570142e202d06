"""The stored baseline: pytest-benchmark's JSON and, with it, the source measured, environment, errors, fingerprints."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..plain.errors import CannotDo
from ..plain.evidence import TensorError
from ..plain.execution import Fingerprint
from ..plain.typed import Unfit
from .source import Source

SCHEMA = 1
KEY = "gate"  # the key of our part, beside pytest-benchmark's own


@dataclass(frozen=True)
class Baseline:
    """What a comparison needs of a stored baseline."""

    source: Source
    errors: Mapping[str, Mapping[str, float]]  # case id -> tensor -> error on the case's first inputs
    environment: Mapping[str, object]
    seconds: Mapping[str, float] = field(default_factory=dict)  # case id -> median of one call
    fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)  # by case id

    def errors_in(self, environment: Mapping[str, object]) -> Mapping[str, Mapping[str, float]]:
        """Return the stored errors if this environment's arithmetic is the same, else none.

        An older baseline does not say which instruction set PyTorch used.
        """
        stored = {"instructions": environment["instructions"]} | dict(self.environment)
        same = all(stored.get(name) == environment[name] for name in ("cpu", "instructions", "torch"))
        return self.errors if same else {}

    def fingerprints_in(self, environment: Mapping[str, object]) -> Mapping[str, Fingerprint]:
        """Return the stored fingerprints that hold in this environment too: same torch, and for CUDA the same GPU."""

        def same(*names: str) -> bool:
            return all(self.environment.get(name) == environment.get(name) for name in names)

        return {
            id_: stored
            for id_, stored in self.fingerprints.items()
            if (same("torch", "gpu", "cuda") if device_of(id_) == "cuda" else same("torch"))
        }


def device_of(case_id: str) -> str:
    """Return the device that a case id names: ``sdpa-b1h8t512d64-causal-fp32-cpu-fwd`` is of ``cpu``."""
    return case_id.rpartition("-")[0].rpartition("-")[2]


def our_part(
    source: Source, environment: Mapping[str, object], untimed: Sequence[Mapping[str, object]] = ()
) -> dict[str, object]:
    """Make our part of the JSON: schema, environment, the source that was measured, and cases that were not timed."""
    return {
        "schema": SCHEMA,
        "environment": dict(environment),
        "untimed": list(untimed),
        "source_sha256": source.sha256,
        "source_zip_base64": base64.b64encode(source.archive).decode("ascii"),
    }


def extra_info(case_id: str, errors: tuple[TensorError, ...], fingerprint: Fingerprint | None) -> dict[str, object]:
    """Make what is stored with one case, beside pytest-benchmark's figures."""
    return {
        "case": case_id,
        "errors": {e.name: {"error": e.head, "naive": e.naive, "budget": e.budget} for e in errors},
        "fingerprint": None if fingerprint is None else fingerprint.as_stored(),
    }


def _errors(stored: Mapping[str, Any]) -> dict[str, float]:
    """Return the error of each tensor; one that was infinite is stored as null and holds the head to nothing."""
    return {name: float(e["error"]) for name, e in stored.items() if e["error"] is not None}


def read(path: Path) -> Baseline:
    """Read a stored baseline.

    Raises:
        CannotDo: unreadable, not JSON, of a later schema, or without source.

    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CannotDo(f"baseline {path} cannot be read ({error}): store it anew with --benchmark-save") from error
    part: Any = stored.get(KEY) if isinstance(stored, dict) else None
    if not isinstance(part, dict) or "source_zip_base64" not in part:
        raise CannotDo(
            f"baseline {path} holds no source of attention/, so there is nothing to time beside the head: "
            "store it anew with --benchmark-save"
        )
    if part.get("schema") != SCHEMA:
        raise CannotDo(
            f"baseline {path} has schema {part.get('schema')!r} and this version reads {SCHEMA}: "
            "store it anew, or use the version that wrote it"
        )
    try:
        archive = base64.b64decode(part["source_zip_base64"], validate=True)
        source = Source(f"baseline {path.name}", archive)
        intact = source.sha256 == part["source_sha256"]
        cases = [benchmark["extra_info"] for benchmark in stored["benchmarks"]] + part.get("untimed", [])
        errors = {c["case"]: _errors(c["errors"]) for c in cases}
        timed = [benchmark for benchmark in stored["benchmarks"] if "stats" in benchmark]
        seconds = {b["extra_info"]["case"]: float(b["stats"]["median"]) for b in timed}
        environment = dict(part["environment"])
        fingerprints = {c["case"]: print_ for c in cases if (print_ := _fingerprint(c.get("fingerprint"))) is not None}
    except Exception as error:
        raise CannotDo(f"baseline {path} is damaged ({type(error).__name__}: {error}): store it anew") from error
    if not intact:
        raise CannotDo(f"baseline {path} is damaged (its source does not match its digest): store it anew")
    return Baseline(source, errors, environment, seconds, fingerprints)


def _fingerprint(stored: Any) -> Fingerprint | None:
    """Read a stored fingerprint; None where there is none, or one of a version that stored less."""
    try:
        found = Fingerprint.from_stored(stored)
    except Unfit:
        return None
    if found.calls is None:
        return found
    return replace(found, calls=replace(found.calls, first_call_s=None))  # a time of another hour is no baseline
