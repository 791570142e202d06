"""Reads a run back from ``--gate-json``; it may come from anyone, so every value is checked."""

from collections.abc import Iterator, Mapping
from functools import partial
from math import inf
from typing import Any, NotRequired

from ..judging.policy import Policy
from ..judging.roofline import Achieved
from ..judging.run import Run
from ..judging.verdict import CaseResult, HostTime
from ..plain.errors import CannotDo
from ..plain.evidence import Evidence, TensorError
from ..plain.execution import Cost, Fingerprint
from ..plain.strict_json import loads
from ..plain.typed import Readers, Unfit, fields_and_more
from .as_json import SCHEMA
from .reproduce import known

_OLD_HOST = ("base_host_ns", "head_host_ns")  # of version 0.2.0, which did not judge them
LEAST_THRESHOLD = 1e-9  # advice divides by the square of the threshold


def from_json(text: str) -> Run:
    """Read the run: the strict inverse of ``as_json``, except for the raw pairs, which JSON does not hold.

    Raises:
        CannotDo: not JSON, of another schema, a value of a wrong type or range, or verdicts that do not add up to
            the summary and exit code beside them.

    """
    try:
        return _run(loads(text))
    except (ValueError, RecursionError, Unfit) as error:
        raise CannotDo(f"this is no report that --gate-json wrote ({error}): write it anew") from error


def _run(value: Any) -> Run:
    """Return the run if its figures make sense, and agree with the document's own summary and exit code."""
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise Unfit(f"its schema is not {SCHEMA}")
    derived = {"schema": int, "warnings": tuple[str, ...], "summary": Mapping[str, int], "exit_code": int}
    own, beside = fields_and_more(Run, value, "document", derived, readers=_READERS)
    run = Run(**own)
    for sound, why in _rules(run):
        if not sound:
            raise Unfit(why)
    same_code = beside["exit_code"] == run.exit_code
    same_code = same_code or (value["policy"].get("strict") is True and (beside["exit_code"], run.exit_code) == (1, 4))
    if beside["summary"] != run.summary or not same_code:
        raise Unfit("its summary and exit_code do not follow from its cases")
    return run


def _rules(run: Run) -> Iterator[tuple[bool, str]]:
    """List what must hold of values that each have their type, and what to say where it does not."""
    policy, shard = run.policy, run.shard
    for name, side in (("base", run.base), ("head", run.head)):
        named = isinstance(side.get("origin"), str) and isinstance(side.get("source_sha256"), str)
        yield named, f"document.{name} should name its origin and source_sha256"
    in_range = LEAST_THRESHOLD <= policy.threshold <= 10
    yield in_range, f"document.policy should have a threshold from {LEAST_THRESHOLD:g} to 10"
    positive = policy.budget_s > 0 and 0 < policy.false_alarm < 1
    yield positive, "document.policy should have a budget and a false alarm probability above zero"
    yield 0 <= policy.undecided <= 1, "document.policy should have a share of undecided cases from 0 to 1"
    part = shard is None or 1 <= shard.index <= shard.count
    yield part, "document.shard should have an index from 1 to its count"
    speeds = (min(ceiling.flops_per_s, ceiling.bytes_per_s) for ceiling in run.ceilings)
    yield all(speed > 0 for speed in speeds), "document.ceilings should be above zero"
    yield all(map(known, run.options)), "document.options should be options that repeat a case"
    yield len({case.id for case in run.cases}) == len(run.cases), "a case is in it twice"
    for case in run.cases:
        times = [time for one in (case, case.host) if one for time in (one.ratio, *one.ci, one.base_ns, one.head_ns)]
        sound = all(time is None or time > 0 for time in times) and (case.mde is None or case.mde >= 0)
        yield sound, f"the figures of {case.id[:120]!a} should be above zero"


def _case(value: object, where: str) -> CaseResult:
    own, beside = fields_and_more(
        CaseResult,
        value,
        where,
        {
            "id": str,
            "model": NotRequired[str | None],
            "error": Mapping[str, TensorError],
            "fingerprint": {"base": Fingerprint | None, "head": Fingerprint | None},
            "work": Cost | None,
            "achieved": Achieved | None,
            **dict.fromkeys(_OLD_HOST, NotRequired[float | None]),
        },
        without=("evidence",),
        readers=_READERS,
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
    own, beside = fields_and_more(Policy, value, where, {"strict": NotRequired[bool]})
    return Policy(**own | ({"undecided": 0.0} if beside.get("strict") else {}))


def _error(value: object, where: str) -> "partial[TensorError]":
    """Read an error without its name, which is its key."""
    figures = {"head": float | None, "share": float | None}
    own, beside = fields_and_more(TensorError, value, where, figures, without=("name", "head"))
    return partial(TensorError, head=inf if beside["head"] is None else beside["head"], **own)


_READERS: Readers = {
    Policy: _policy,
    CaseResult: _case,
    TensorError: _error,
    Fingerprint: Fingerprint.from_stored,
}
