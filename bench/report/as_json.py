"""The verdicts as JSON: ``--gate-json``."""

import json
from dataclasses import asdict

from ..judging.run import Run
from .schema import Document


def as_json(run: Run) -> str:
    """Write the run as JSON; an infinite or missing figure is null. The raw pairs are not in it."""
    return json.dumps(asdict(Document.of(run)), indent=2, allow_nan=False) + "\n"
