"""A run read back from what ``--gate-json`` wrote. What it reads may come from anyone: every value is checked."""

import json
from typing import Any, NoReturn

from ..judging.run import Run
from ..plain.errors import CannotDo
from .schema import SCHEMA, Document
from .typed import Unfit, typed

LEAST_THRESHOLD = 1e-9  # advice divides by its square


def from_json(text: str) -> Run:
    """Read the run: the strict inverse of ``as_json``, except for the raw pairs, which JSON does not hold.

    Raises:
        CannotDo: not JSON, of another schema, a value of a wrong type or range, or verdicts that do not add up to
            the summary and exit code beside them.

    """
    try:
        document = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_repeated_key)
        return _run(document)
    except (ValueError, RecursionError, Unfit) as error:
        raise CannotDo(f"these are no verdicts as --gate-json writes them ({error}): write them anew") from error


def _run(value: Any) -> Run:
    """Return the run if its figures mean something, and what follows from its cases is what the document says."""
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise Unfit(f"its schema is not {SCHEMA}")
    document: Document = typed(Document, value, "document")
    run = document.run
    for name, side in (("base", run.base), ("head", run.head)):
        if not isinstance(side.get("origin"), str) or not isinstance(side.get("source_sha256"), str):
            raise Unfit(f"document.{name} should name its origin and source_sha256")
    policy = run.policy
    if not LEAST_THRESHOLD <= policy.threshold <= 10 or policy.budget_s <= 0 or not 0 < policy.false_alarm < 1:
        raise Unfit(
            f"document.policy should have a threshold from {LEAST_THRESHOLD:g} to 10, and a budget and a false alarm "
            "probability above zero"
        )
    if run.shard is not None and not 1 <= run.shard.index <= run.shard.count:
        raise Unfit("document.shard should have an index from 1 to its count")
    if any(min(ceiling.flops_per_s, ceiling.bytes_per_s) <= 0 for ceiling in run.ceilings):
        raise Unfit("document.ceilings should be above zero")
    _check_cases(run)
    if dict(document.summary) != run.summary or document.exit_code != run.exit_code:
        raise Unfit("its summary and exit_code do not follow from its cases")
    return run


def _check_cases(run: Run) -> None:
    if len({case.id for case in run.cases}) < len(run.cases):
        raise Unfit("a case is in it twice")
    for case in run.cases:
        times = (case.ratio, *case.ci, case.base_ns, case.head_ns)
        if any(figure is not None and figure <= 0 for figure in times) or (case.mde is not None and case.mde < 0):
            raise Unfit(f"the figures of {case.id[:120]!a} should be above zero")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _no_repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key is in an object twice")
    return document
