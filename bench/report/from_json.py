"""Reads a run back from ``--gate-json``; it may come from anyone, so every value is checked."""

import json
from collections.abc import Collection, Mapping
from functools import partial
from math import inf
from typing import Any, NoReturn, NotRequired

from ..judging.policy import Policy
from ..judging.roofline import Achieved
from ..judging.run import Run
from ..judging.verdict import CaseResult, HostTime
from ..plain.errors import CannotDo
from ..plain.evidence import Evidence, TensorError
from ..plain.execution import Cost, Fingerprint
from .as_json import SCHEMA
from .reproduce import known
from .typed import Unfit, fields_of, typed

_OLD_HOST = ("base_host_ns", "head_host_ns")  # of version 0.2.0, which did not judge them
LEAST_THRESHOLD = 1e-9  # advice divides by the square of the threshold


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
    """Return the run if its figures make sense, and agree with the document's own summary and exit code."""
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise Unfit(f"its schema is not {SCHEMA}")
    derived = {"schema": int, "warnings": tuple[str, ...], "summary": Mapping[str, int], "exit_code": int}
    own, beside = _parts(Run, value, "document", beside=derived)
    run = Run(**own)
    for name, side in (("base", run.base), ("head", run.head)):
        if not isinstance(side.get("origin"), str) or not isinstance(side.get("source_sha256"), str):
            raise Unfit(f"document.{name} should name its origin and source_sha256")
    policy = run.policy
    if not LEAST_THRESHOLD <= policy.threshold <= 10 or policy.budget_s <= 0 or not 0 < policy.false_alarm < 1:
        raise Unfit(
            f"document.policy should have a threshold from {LEAST_THRESHOLD:g} to 10, and a budget and a false alarm "
            "probability above zero"
        )
    if not 0 <= policy.undecided <= 1:
        raise Unfit("document.policy should have a share of undecided cases from 0 to 1")
    if run.shard is not None and not 1 <= run.shard.index <= run.shard.count:
        raise Unfit("document.shard should have an index from 1 to its count")
    if any(min(ceiling.flops_per_s, ceiling.bytes_per_s) <= 0 for ceiling in run.ceilings):
        raise Unfit("document.ceilings should be above zero")
    if not all(map(known, run.options)):
        raise Unfit("document.options should be of those by which a case is repeated")
    _check_cases(run)
    same_code = beside["exit_code"] == run.exit_code
    same_code = same_code or (value["policy"].get("strict") is True and (beside["exit_code"], run.exit_code) == (1, 4))
    if beside["summary"] != run.summary or not same_code:
        raise Unfit("its summary and exit_code do not follow from its cases")
    return run


def _check_cases(run: Run) -> None:
    if len({case.id for case in run.cases}) < len(run.cases):
        raise Unfit("a case is in it twice")
    for case in run.cases:
        times: tuple[float | None, ...] = (case.ratio, *case.ci, case.base_ns, case.head_ns)
        if (host := case.host) is not None:
            times += (host.ratio, *host.ci, host.base_ns, host.head_ns)
        if any(figure is not None and figure <= 0 for figure in times) or (case.mde is not None and case.mde < 0):
            raise Unfit(f"the figures of {case.id[:120]!a} should be above zero")


def _parts(
    kind: type, value: object, where: str, *, without: Collection[str] = (), beside: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read an object that has the fields of a dataclass, except some, and more keys; returns both parts."""
    fields = {name: type_ for name, type_ in fields_of(kind).items() if name not in without}
    found = typed({**fields, **beside}, value, where, _READERS)
    return {name: found.pop(name) for name in fields if name in found}, found


def _case(value: object, where: str) -> CaseResult:
    own, beside = _parts(
        CaseResult,
        value,
        where,
        without=("evidence",),
        beside={
            "id": str,
            "model": NotRequired[str | None],
            "error": Mapping[str, TensorError],
            "fingerprint": {"base": Fingerprint | None, "head": Fingerprint | None},
            "work": Cost | None,
            "achieved": Achieved | None,
            **dict.fromkeys(_OLD_HOST, NotRequired[float | None]),
        },
    )
    base_ns, head_ns = (beside.get(name) for name in _OLD_HOST)
    if base_ns is not None and head_ns is not None:
        own["host"] = HostTime(base_ns, head_ns)
    evidence = Evidence(
        beside["id"],
        model=beside.get("model") or "",
        errors=tuple(error(name) for name, error in beside["error"].items()),
        base_fingerprint=beside["fingerprint"]["base"],
        head_fingerprint=beside["fingerprint"]["head"],
        work=beside["work"],
    )
    return CaseResult(evidence, **own)


def _policy(value: object, where: str) -> Policy:
    """Read a policy; one of version 0.2.0 may be strict, and lets nothing stay undecided."""
    own, beside = _parts(Policy, value, where, beside={"strict": NotRequired[bool]})
    return Policy(**own | ({"undecided": 0.0} if beside.get("strict") else {}))


def _error(value: object, where: str) -> "partial[TensorError]":
    """Read an error without its name, which is its key."""
    figures = {"head": float | None, "share": float | None}
    own, beside = _parts(TensorError, value, where, without=("name", "head"), beside=figures)
    return partial(TensorError, head=inf if beside["head"] is None else beside["head"], **own)


def _fingerprint(value: object, where: str) -> Fingerprint:
    totals = {"ops": Mapping[str, int], "peak_bytes": int, "allocated_bytes": int}
    own, _ = _parts(Fingerprint, value, where, beside=totals)
    return Fingerprint(**own)


_READERS = {Policy: _policy, CaseResult: _case, TensorError: _error, Fingerprint: _fingerprint}


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _no_repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key is in an object twice")
    return document
