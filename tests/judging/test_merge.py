"""Joining shards: one verdict from all of them, and a refusal where they are not all of one run."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.judging.merge import merge
from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.errors import CannotDo
from bench.plain.evidence import Evidence, Load, Shard
from bench.report.as_json import as_json
from bench.report.from_json import from_json

IDS = ("a", "b", "c", "d", "e")
PARTS = (("a", "d"), ("b", "e"), ("c",))


def shard(index: int, *, ids: Sequence[str] = IDS, **verdicts: Verdict) -> Run:
    cases = tuple(
        CaseResult(Evidence(id_), verdicts.get(id_, Verdict.UNCHANGED), (f"why {id_}",), ratio=1.0)
        for id_ in PARTS[index - 1]
    )
    return Run(
        {"origin": "revision main", "source_sha256": "b"},
        {"origin": "working tree", "source_sha256": "h"},
        {"cpu": f"cpu {index % 2}", "threads": 1, "torch": "2.13"},
        Policy(),
        cases,
        shard=Shard.of(index, 3, "pr", ids),
    )


def shards(**verdicts: Verdict) -> dict[str, Run]:
    return {f"{index}.json": shard(index, **verdicts) for index in (1, 2, 3)}


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_joined_run_has_every_case_and_the_exit_code_of_one_run_over_all(verdict: Verdict) -> None:
    merged = merge(shards(e=verdict))
    whole = replace(merged, cases=tuple(c for run in shards(e=verdict).values() for c in run.cases))
    assert {case.id: case.verdict for case in merged.cases} == {**dict.fromkeys(IDS, Verdict.UNCHANGED), "e": verdict}
    assert merged.exit_code == whole.exit_code
    assert merged.closing_line == whole.closing_line


def test_the_order_of_the_files_does_not_matter() -> None:
    given = shards(b=Verdict.FASTER)
    backwards = dict(reversed(given.items()))
    assert {c.id: c for c in merge(backwards).cases} == {c.id: c for c in merge(given).cases}
    assert merge(backwards).shard == merge(given).shard == Shard.of(1, 1, "pr", IDS)


def test_shards_may_call_the_same_code_by_different_names() -> None:
    given = shards()
    given["3.json"] = replace(
        given["3.json"],
        base={"origin": "baseline 0001", "source_sha256": "b"},
        head={"origin": "revision HEAD", "source_sha256": "h"},
    )
    assert merge(given).base == given["1.json"].base


def test_environments_are_joined_and_warnings_name_their_shard() -> None:
    given = shards()
    for index, name in enumerate(given, 1):
        environment = {**given[name].environment, "cores": 2**index}
        given[name] = replace(given[name], environment=environment, notes=(f"note {index}",), options=("--tier=pr",))
    given["2.json"] = replace(given["2.json"], load=Load(4, 2.0, 0.0, None), absent=("x", "y"))
    given["3.json"] = replace(given["3.json"], absent=("y",))
    merged = merge(given | {"again.json": given["2.json"]})
    assert merged.environment == {"cpu": "cpu 1, cpu 0", "threads": 1, "torch": "2.13", "cores": "2, 4, 8"}
    assert merged.notes[:2] == ("shard 1/3: note 1", "shard 2/3: note 2")
    assert merged.notes[2].startswith("shard 2/3: other processes kept 2.0 of 4 cores busy")
    assert [note.partition(",")[0] for note in merged.notes[3:]] == [
        "shard 2/3: 2 cases of the baseline",
        "shard 3/3: note 3",
        "shard 3/3: 1 cases of the baseline",
    ]
    assert (merged.absent, merged.options) == (("x", "y"), ("--tier=pr",))


def test_what_was_joined_can_be_read_and_joined_again() -> None:
    merged = merge(shards(c=Verdict.REGRESSED))
    assert {c.id for c in merge({"all.json": from_json(as_json(merged))}).cases} == set(IDS)


def test_a_shard_repeated_with_the_same_results_adds_nothing() -> None:
    assert merge({**shards(), "again.json": shard(2)}) == merge(shards())


@pytest.mark.parametrize("worse_comes", ["first", "last"])
def test_of_a_repeated_shard_the_worst_verdict_of_each_case_counts(worse_comes: str) -> None:
    runs = {"2.json": shard(2, b=Verdict.REGRESSED, e=Verdict.FASTER), "again.json": shard(2)}
    given = {"1.json": shard(1), **(runs if worse_comes == "first" else dict(reversed(runs.items()))), "3": shard(3)}
    merged = merge(given)
    by_id = {case.id: case for case in merged.cases}
    assert by_id["b"].verdict is Verdict.REGRESSED
    assert by_id["b"].reasons[0] == "why b"
    seen = ["REGRESSED in 2.json", "UNCHANGED in again.json"]
    said = ", ".join(seen if worse_comes == "first" else reversed(seen))
    assert by_id["b"].reasons[1] == f"its shard ran 2 times: {said}"
    assert by_id["e"].verdict is Verdict.FASTER
    assert len(merged.cases) == len(IDS)
    assert merged.exit_code == 1
    names = "2.json, again.json" if worse_comes == "first" else "again.json, 2.json"
    assert merged.notes == (f"shard 2/3 ran 2 times ({names}): the worst verdict of each case counts",)


@pytest.mark.parametrize("ids", ["", "a"], ids=["no rows", "a skipped row"])
def test_an_empty_shard_passes_by_itself_and_empty_shards_alone_do_not(ids: str) -> None:
    skipped = tuple(CaseResult(Evidence(id_), Verdict.SKIPPED, ("cannot",)) for id_ in ids)
    first, *others = (replace(shard(index, ids=ids), cases=()) for index in (1, 2, 3))
    runs = [replace(first, cases=skipped), *others]
    assert {run.exit_code for run in runs} == {0}
    assert runs[0].closing_line == (
        "gate: EMPTY, shard 1/3 has no case to compare: python -m bench merge gives the verdict of all shards"
    )
    merged = merge({f"{number}.json": run for number, run in enumerate(runs)})
    assert merged.exit_code == 4
    assert "nothing was compared" in merged.closing_line


def test_one_of_two_shards_is_a_part_and_one_of_one_is_a_whole() -> None:
    assert [replace(shard(1), shard=Shard.of(1, count, "pr", IDS)).is_part for count in (1, 2)] == [False, True]


def test_a_shard_whose_cases_are_all_new_compared_nothing() -> None:
    assert shard(3, c=Verdict.NEW).exit_code == 4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s.pop("2.json"), "1 of 3 shards missing: run shard 2/3 again and name the file too"),
        (lambda s: [s.pop(n) for n in ("1.json", "3.json")], "2 of 3 shards missing: run shards 1/3 and 3/3 again"),
        (
            lambda s: s.update({"3.json": replace(s["3.json"], cases=s["1.json"].cases)}),
            "two shards hold a: split one list of cases",
        ),
        (
            lambda s: s.update({"1.json": replace(s["1.json"], cases=s["1.json"].cases[:1])}),
            "the shards hold 4 cases and not the 5 that were split: run every shard to its end",
        ),
        (
            lambda s: s.update({"again": replace(s["1.json"], cases=s["1.json"].cases[:1])}),
            "1.json and again are the same shard with different cases: keep the right one",
        ),
        (
            lambda s: s.update({"again": replace(s["1.json"], cases=s["2.json"].cases)}),
            "1.json and again are the same shard with different cases: keep the right one",
        ),
        (lambda s: s.update({"3.json": replace(s["3.json"], shard=None)}), "3.json does not say which shard it is"),
    ],
)
def test_gaps_and_overlaps_are_refused(change: Callable[[dict[str, Run]], object], expected: str) -> None:
    given = shards()
    change(given)
    with pytest.raises(CannotDo) as refused:
        merge(given)
    assert expected in str(refused.value)


def test_how_much_may_be_undecided_is_asked_of_the_whole_and_not_of_its_parts() -> None:
    def limited(**verdicts: Verdict) -> dict[str, Run]:
        given = {name: replace(run, policy=Policy(undecided=0.2)) for name, run in shards(**verdicts).items()}
        return {name: replace(run, load=Load(2, 1.8, 0.0, None)) for name, run in given.items()}

    one, two = limited(a=Verdict.INCONCLUSIVE), limited(a=Verdict.INCONCLUSIVE, c=Verdict.INCONCLUSIVE)
    assert {run.exit_code for run in two.values()} == {0}
    assert "1 of 2 timed cases undecided: python -m bench merge says if that is too many" in two["1.json"].closing_line
    assert merge(one).exit_code == 0
    merged = merge(two)
    assert merged.exit_code == 4
    assert merged.closing_line.startswith("gate: ERROR, 2 of 5 timed cases are undecided, and at most 20% may be: ")
    assert any(
        note.startswith("shard 3/3: 1 of 1 timed cases is undecided, and at most 20% may be: other processes kept 1.8")
        for note in merged.notes
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"base": {"origin": "revision main", "source_sha256": "other"}}, "base"),
        ({"base": {"origin": "revision main", "source_sha256": "b", "interpreter": "other"}}, "base"),
        ({"head": {"origin": "working tree", "source_sha256": "other"}}, "head"),
        ({"head": {"origin": "working tree", "source_sha256": "h", "interpreter": "other"}}, "head"),
        ({"policy": Policy(threshold=0.5)}, "policy"),
        ({"environment": {"threads": 2, "torch": "2.13"}}, "number of threads"),
        ({"environment": {"threads": 1, "torch": "2.12"}}, "version of torch"),
        ({"shard": Shard.of(3, 3, "full", IDS)}, "tier"),
        ({"shard": Shard.of(3, 4, "pr", IDS)}, "number of shards"),
        ({"shard": Shard.of(3, 3, "pr", ("a", "b"))}, "list of cases"),
        ({"shard": Shard.of(3, 3, "pr", ("a", "b", "c", "d", "f"))}, "list of cases"),
    ],
)
def test_shards_of_different_runs_are_refused(change: dict[str, object], what: str) -> None:
    given = shards()
    given["3.json"] = replace(given["3.json"], **change)  # type: ignore[arg-type]  # any field
    with pytest.raises(CannotDo, match=rf"^1\.json and 3\.json differ in their {what}: merge the shards of one"):
        merge(given)


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., list[str]]:
    def write(**verdicts: Verdict) -> list[str]:
        paths = [tmp_path / name for name in shards()]
        for path, run in zip(paths, shards(**verdicts).values(), strict=True):
            path.write_text(as_json(run))
        return [str(path) for path in paths]

    return write


@pytest.mark.parametrize(
    ("verdict", "exit_code"), [(Verdict.UNCHANGED, 0), (Verdict.REGRESSED, 1), (Verdict.INCONCLUSIVE, 0)]
)
def test_the_command_prints_the_table_and_the_closing_line_and_writes_the_reports(
    files: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verdict: Verdict,
    exit_code: int,
) -> None:
    outputs = {form: tmp_path / f"all.{form}" for form in ("json", "markdown", "html")}
    arguments = [f"--{form}={path}" for form, path in outputs.items()]
    assert main(["merge", *files(c=verdict), *arguments]) == exit_code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == merge(shards(c=verdict)).closing_line
    assert sum(line.split()[0] in IDS for line in lines) == len(IDS)
    assert json.loads(outputs["json"].read_text())["exit_code"] == exit_code
    said = "gate: FAIL" if exit_code else "gate: PASS"
    assert lines[-1].startswith(said)
    assert all(said in outputs[form].read_text() for form in ("markdown", "html"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, "cannot be read ("), ("{", "this is no report that --gate-json wrote ("), ("\udcff", "cannot be")],
)
def test_a_file_that_is_no_shard_is_one_sentence_and_exit_code_4(
    files: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    expected: str,
) -> None:
    path = tmp_path / "other.json"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    assert main(["merge", *files(), str(path)]) == 4
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert expected in error


def test_a_report_that_cannot_be_written_is_no_pass(
    files: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["merge", *files(), f"--html={tmp_path / 'file' / 'x.html'}"]) == 4
    refused = capsys.readouterr()
    assert "x.html cannot be written (" in refused.err
    assert refused.out == ""  # nothing was joined
