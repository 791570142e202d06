"""Verdicts as JSON and back: what was written is read as it was, and nothing else is read at all."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.verdict import CaseResult, HostTime, Verdict
from bench.plain.errors import CannotDo
from bench.plain.evidence import Evidence, Load, Shard, TensorError
from bench.plain.execution import Ceiling, Compilation, Cost, Fingerprint, Pass, SdpaCall
from bench.report.as_html import as_html
from bench.report.as_json import as_json
from bench.report.as_markdown import as_markdown
from bench.report.from_json import from_json

CALL = SdpaCall((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4), (1, 1, 1), "float32", mask=(3, 3), mask_dtype="bool")
FLASH = Fingerprint(
    Pass({"aten.flash": 1, "aten.mul": 2}, 2**20, 2**21),
    Pass({"aten.mul": 1}, 2**19, 2**20),
    "flash",
    (CALL,),
    Compilation(1, ("a break",), 0, 2),
)
ERRORS = (
    TensorError("out", 1e-7, 1.5e-7, 4e-7, 1e-8, 3e-8, base=1e-7, bit_equal=True),
    TensorError("dq", float("inf"), 0.0, 0.0, complaints=("dq: shape and dtype are wrong",)),
)
FOUND = Evidence(
    "sdpa-b1h8t128d64-causal-fp32-cpu-fwd",
    errors=ERRORS,
    base_fingerprint=FLASH,
    head_fingerprint=replace(FLASH, backend=None, launches={"flash_fwd": 1}),
    work=Cost(10**9, 10**6, "fp32", "cpu"),
    model="a model",
)
TIMED = CaseResult(
    FOUND,
    Verdict.UNCHANGED,
    ("a reason",),
    ratio=1.01,
    ci=(0.99, None),
    pairs=60,
    mde=0.031,
    base_ns=1e6,
    head_ns=1.01e6,
    host=HostTime(2e4, 3e4, Verdict.REGRESSED, 1.5, (1.4, None), 50, 0.04),
    seconds=0.25,
)
SIDES = {"origin": "revision main", "source_sha256": "0" * 64}, {"origin": "working tree", "source_sha256": "1" * 64}
RUN = Run(
    *SIDES,
    {"cpu": "a cpu", "cores": 4, "gpu": None, "idle": True, "clock": 0.5},
    Policy(undecided=0.0),
    tuple(
        replace(TIMED, evidence=replace(FOUND, case_id=verdict.value.lower()), verdict=verdict)
        if verdict.compared
        else CaseResult(Evidence(verdict), verdict)
        for verdict in Verdict
    ),
    Load(4, 2.5, 0.0, None),
    shard=Shard(2, 3, "pr", 40, "ab" * 32),
    notes=("the clock of the GPU was not watched",),
    ceilings=(Ceiling("fp32", "cpu", 1, 1e11, 1e10),),
    absent=("sdpa-b1h8t128d64-causal-fp32-cuda-fwd",),
    options=("--tier=full", "--gate-base=main"),
)
PLAIN = Run(*SIDES, {}, Policy(), (TIMED,))
Change = Callable[[dict[str, Any]], object]


# What is in no file: the raw pairs, and what has become the reasons.
RAW = {"measurements", "replication", "host"}
NOT_WRITTEN = RAW | {"error", "skipped", "missing", "new", "timed", "differs", "remarks"}
SCHEMA_1 = Path(__file__).parent / "schema-1.json"


@pytest.mark.parametrize("run", [RUN, PLAIN, replace(PLAIN, cases=())], ids=["every verdict", "plain", "nothing"])
def test_what_was_written_is_read_back_as_it_was(run: Run) -> None:
    text = as_json(run)
    read = from_json(text)
    assert as_json(read) == text
    assert read == replace(run, cases=tuple(run.worst_first))
    assert as_markdown(read) == as_markdown(run)
    assert as_html(read) == as_html(run)


def test_every_field_of_a_case_is_given_a_value_above_so_that_none_can_be_forgotten() -> None:
    for given in (TIMED, FOUND):
        left_out = {f.name for f in fields(given) if getattr(given, f.name) == f.default} - NOT_WRITTEN
        assert left_out == set()


def test_a_file_of_schema_1_is_read_as_it_was_first_written_and_no_other_of_its_keys_is_lost() -> None:
    text = SCHEMA_1.read_text()
    strict = ("policy", "strict", "True")  # a share of 0 undecided cases says the same
    off, fine, skipped = "sdpa-b1h8t128d64-full-fp32-cpu-fwdbwd", FOUND.case_id, "manual-b1h4t64d32-causal-fp32-cpu-fwd"
    found = replace(FOUND, head_fingerprint=replace(FLASH, backend=None), model="")  # without what came later
    timed = replace(TIMED, host=None)
    cases = (
        replace(
            timed,
            evidence=replace(found, case_id=off),
            verdict=Verdict.DRIFTED,
            reasons=("dq: shape and dtype are wrong",),
        ),
        replace(timed, evidence=replace(found, case_id=fine, errors=ERRORS[:1])),
        CaseResult(Evidence(skipped), Verdict.SKIPPED, ("manual does not support causal attention",)),
    )
    run = from_json(text)
    assert run == replace(RUN, cases=cases, options=())
    assert set(leaves(json.loads(text))) - {strict} <= set(leaves(json.loads(as_json(run))))


@pytest.mark.parametrize(("code", "read"), [(1, True), (4, True), (0, False)])
def test_a_strict_run_of_before_that_failed_for_undecided_cases_is_still_read(code: int, *, read: bool) -> None:
    document = json.loads(as_json(replace(PLAIN, cases=(replace(TIMED, verdict=Verdict.INCONCLUSIVE),))))
    document["policy"] |= {"strict": True, "undecided": 0.05}
    document["exit_code"] = code
    with nullcontext() if read else pytest.raises(CannotDo, match="exit_code do not follow"):
        assert from_json(json.dumps(document)).policy.undecided == 0.0


def test_what_has_a_default_may_be_absent_from_a_file() -> None:
    document = json.loads(as_json(PLAIN))
    (case,) = document["cases"]
    absent = (
        (document, "notes"),
        (document, "load"),
        (document, "options"),
        (document["policy"], "undecided"),
        (case, "mde"),
        (case["error"]["out"], "bit_equal"),
    )
    for part, key in absent:
        del part[key]
    out, dq = ERRORS
    found = replace(FOUND, errors=(replace(out, bit_equal=None), dq))
    assert from_json(json.dumps(document)) == replace(PLAIN, cases=(replace(TIMED, evidence=found, mde=None),))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every value of a document that holds no others, at the end of its path."""
    if not value or not isinstance(value, dict | list):
        return [(*path, repr(value))]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [leaf for key, item in items for leaf in leaves(item, (*path, key))]


def changed(change: Change) -> str:
    document = json.loads(as_json(RUN))
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d.pop("schema"), "its schema is not 1"),
        (lambda d: d.update(schema=2), "its schema is not 1"),
        (lambda d: d.pop("policy"), "document lacks policy"),
        (lambda d: d.update(extra=1), "document has the unknown 'extra'"),
        (lambda d: d["cases"][0].pop("verdict"), "document.cases[0] lacks verdict"),
        (lambda d: d["cases"][0]["fingerprint"].pop("head"), "document.cases[0].fingerprint lacks head"),
        (lambda d: d["cases"][0]["fingerprint"]["base"].pop("ops"), "document.cases[0].fingerprint.base lacks ops"),
        (lambda d: d["cases"][0]["error"]["out"].update(name="out"), "error['out'] has the unknown 'name'"),
        (lambda d: d.update(cases={}), "document.cases should be of type list and is {}"),
        (lambda d: d["cases"][0].update(verdict="FINE"), "document.cases[0].verdict should be one of ERROR, "),
        (lambda d: d["cases"][0].update(verdict=[]), "should be one of ERROR, "),
        (lambda d: d["cases"][0].update(id=7), "document.cases[0].id should be of type str and is 7"),
        (lambda d: d["cases"][0].update(pairs=True), "document.cases[0].pairs should be of type int and is True"),
        (lambda d: d["cases"][0].update(pairs=1.0), "document.cases[0].pairs should be of type int and is 1.0"),
        (lambda d: d["cases"][0].update(pairs=10**30), "document.cases[0].pairs is too large a number"),
        (lambda d: d["cases"][0].update(seconds="1"), "document.cases[0].seconds should be a number and is '1'"),
        (lambda d: d["cases"][0].update(seconds=False), "document.cases[0].seconds should be a number and is False"),
        (lambda d: d["cases"][0].update(seconds=10**400), "document.cases[0].seconds is not a finite number"),
        (lambda d: d["cases"][0].update(ci=[1.0]), "document.cases[0].ci should have 2 entries and has 1"),
        (lambda d: d["cases"][0].update(reasons="r"), "document.cases[0].reasons should be of type list and is 'r'"),
        (lambda d: d["cases"][0]["error"]["out"].update(bit_equal=1), "error['out'].bit_equal should be of type bool"),
        (lambda d: d["cases"][0]["fingerprint"]["base"]["ops"].update(x="1"), "base.ops['x'] should be of type int"),
        (lambda d: d["cases"][0].update(ratio=-1.0), "the figures of 'error' should be above zero"),
        (lambda d: d["cases"][0].update(mde=-2.0), "the figures of 'error' should be above zero"),
        (lambda d: d["cases"][0]["host"].update(ratio=0.0), "the figures of 'error' should be above zero"),
        (lambda d: d["cases"].append(d["cases"][0]), "a case is in it twice"),
        (lambda d: d["environment"].update({"x\n::error": []}), r"document.environment['x\n::error'] should be one of"),
        (lambda d: d["environment"].update({"x" * 99: []}), f"document.environment['{'x' * 56}...] should be one of"),
        (lambda d: d["policy"].update(threshold=0), "document.policy should have a threshold from 1e-09 to 10"),
        (lambda d: d["policy"].update(threshold=1e-200), "document.policy should have a threshold from 1e-09 to 10"),
        (lambda d: d["policy"].update(budget_s=0.0), "a budget and a false alarm probability above zero"),
        (lambda d: d["policy"].update(undecided=1.5), "document.policy should have a share of undecided cases from 0"),
        (lambda d: d["environment"].update(cpu=[]), "document.environment['cpu'] should be one of str, int, float"),
        (lambda d: d["base"].pop("origin"), "document.base should name its origin and source_sha256"),
        (lambda d: d["head"].update(source_sha256=1), "document.head should name its origin and source_sha256"),
        (lambda d: d["shard"].update(index=4), "document.shard should have an index from 1 to its count"),
        (lambda d: d["ceilings"][0].update(flops_per_s=0.0), "document.ceilings should be above zero"),
        (lambda d: d.update(exit_code=0), "its summary and exit_code do not follow from its cases"),
        (lambda d: d["summary"].pop("ERROR"), "its summary and exit_code do not follow from its cases"),
        (lambda d: d["cases"].pop(0), "its summary and exit_code do not follow from its cases"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence_that_says_where(change: Change, expected: str) -> None:
    with pytest.raises(CannotDo) as refused:
        from_json(changed(change))
    message = str(refused.value)
    assert message.startswith("this is no report that --gate-json wrote (")
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "3", '{"schema": 1, "schema": 1}', '{"schema": NaN}', "[" * 100_000, '{"schema": 1}'],
)
def test_what_is_no_such_document_is_refused(text: str) -> None:
    with pytest.raises(CannotDo, match=r"^this is no report that --gate-json wrote \(.*\): write it"):
        from_json(text)


def test_every_single_value_of_another_type_is_refused_and_nothing_else_is_raised() -> None:
    def spoil(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            return [path, *(p for key, item in items for p in spoil(item, (*path, key)))]
        return [path]

    document = json.loads(as_json(replace(RUN, cases=RUN.cases[:1])))
    for path in spoil(document)[1:]:
        spoiled = json.loads(json.dumps(document))
        parent = spoiled
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = [[{}]]
        with pytest.raises(CannotDo):
            from_json(json.dumps(spoiled))
