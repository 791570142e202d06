"""Annotations: one note a kernel, on its line, whatever its cases are called."""

import re
from pathlib import Path

import pytest

import attention
from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence, Place
from bench.report.annotations import as_annotations
from bench.report.text import subject
from bench.suite.matrix import TIERS, matrix
from bench.suite.side import Side

REPOSITORY = Path(__file__).parents[2]
SHAPE = "b1h4t64d32-full-fp32-cpu-fwd"
PLACES = {"sdpa": Place("attention/sdpa.py", 10), "odd": Place("attention/a,b:c%.py", 2)}


def run(*cases: CaseResult) -> Run:
    passed = CaseResult(Evidence(f"masked-{SHAPE}"), Verdict.UNCHANGED, ratio=1.0)
    return Run({"origin": "base"}, {"origin": "head"}, {}, Policy(), (passed, *cases))


def case(name: str, verdict: Verdict, reason: str = "why", ratio: float | None = 1.2) -> CaseResult:
    return CaseResult(Evidence(f"{name}-{SHAPE}"), verdict, (reason,), ratio=ratio)


def test_a_run_that_passes_has_no_notes() -> None:
    assert as_annotations(run(), PLACES) == []


def test_a_failing_kernel_has_one_error_on_its_line_that_says_what_failed_and_what_to_do() -> None:
    (note,) = as_annotations(run(case("sdpa", Verdict.REGRESSED, "20.0% slower")), PLACES)
    assert note.startswith("::error file=attention/sdpa.py,line=10,title=sdpa%3A 1 REGRESSED::sdpa-b1h4t64d32-full")
    assert "20.0%25 slower" in note
    assert "accept it by a `[[waiver]]`" in note


def test_several_cases_of_a_kernel_make_one_note_with_the_worst_spelled_out() -> None:
    rows = [case("sdpa", Verdict.REGRESSED, f"reason {i}", 1.1 + i) for i in range(9)]
    (note,) = as_annotations(run(*rows), PLACES)
    assert "title=sdpa%3A 9 REGRESSED" in note
    assert [f"reason {i}" in note for i in range(9)] == [False] * 6 + [True] * 3
    assert "and 6 more cases of sdpa" in note


def test_undecided_cases_warn() -> None:
    undecided = case("sdpa", Verdict.INCONCLUSIVE)
    assert [note.split()[0] for note in as_annotations(run(undecided), PLACES)] == ["::warning"]


def test_a_kernel_without_a_place_has_a_note_without_one() -> None:
    (note,) = as_annotations(run(case("outside", Verdict.ERROR)), PLACES)
    assert note.startswith("::error title=outside%3A 1 ERROR::")


def test_hostile_names_and_reasons_stay_in_their_fields() -> None:
    row = CaseResult(Evidence(f"odd-{SHAPE}"), Verdict.ERROR, ("a\n::set-env name=X::y\r100%",))
    (note,) = as_annotations(run(row), PLACES)
    assert len(note.splitlines()) == 1
    assert note.startswith("::error file=attention/a%2Cb%3Ac%25.py,line=2,title=odd")
    assert "%0A  a%0A  | ::set-env name=X::y%0A  | 100%25" in note


def test_more_kernels_than_github_shows_are_named_in_the_last_note() -> None:
    notes = as_annotations(run(*(case(f"k{i:02}", Verdict.ERROR) for i in range(15))), PLACES)
    assert len(notes) == 10
    assert notes[-1].endswith("and 6 more: k09, k10, k11, k12, k13, k14")


def test_every_case_s_id_tells_its_subject() -> None:
    for known in matrix(attention.KERNELS, attention.MODULES, TIERS[-1], ("cpu", "cuda")):
        assert subject(known.id) == known.subject


@pytest.mark.parametrize(("name", "file"), [("sdpa", "attention/sdpa.py"), ("mha", "attention/multihead.py")])
def test_kernels_and_modules_are_found_where_they_are_written(name: str, file: str) -> None:
    place = Side.of("head", attention).places(REPOSITORY)[name]
    assert place.file == file
    lines = (REPOSITORY / file).read_text().splitlines()
    assert "@register" in lines[place.line - 1]


def test_what_is_from_outside_the_repository_or_has_no_source_has_no_place() -> None:
    assert Side("head", {"outside": re.escape, "built in": len, "a value": 3}, {}).places(REPOSITORY) == {}
