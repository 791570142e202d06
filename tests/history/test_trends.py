"""Stored baselines read back as trends, with a stand-in for the change-point library."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.history.command import summary
from bench.history.trends import LEVEL, MIN_CHANGE, MIN_POINTS, History, find_steps, read
from bench.plain.errors import CannotDo

CPU = {"cpu": "A processor", "torch": "2.13.0", "threads": 1, "malloc": "fixed", "os": "any"}
Store = Callable[..., Path]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Store a baseline with these times, in nanoseconds by case; ``changes`` replaces parts of the document."""

    def store(number: int, times: dict[str, float], **changes: Any) -> Path:
        path = tmp_path / "Linux" / f"{number:04}_stored.json"
        path.parent.mkdir(exist_ok=True)
        document = {
            "datetime": f"2026-10-{number:02}T12:00:00+00:00",
            "commit_info": {"id": f"{number:040x}"[::-1], "dirty": number % 2 == 1},
            "gate": {"schema": 1, "environment": CPU},
            "benchmarks": [
                {
                    "name": case,
                    "extra_info": {"case": case},
                    "stats": {"median": ns * 1e-9, "q1": 0.9e-9 * ns, "q3": 1.1e-9 * ns},
                }
                for case, ns in times.items()
            ],
        }
        path.write_text(json.dumps(document | changes))
        return path

    return store


def halves(values: Sequence[float], _: float) -> dict[int, float]:
    """Find one step in the middle, if the last value is not the first."""
    return {len(values) // 2: 1e-6} if abs(values[-1] / values[0] - 1) > MIN_CHANGE else {}


def judged(directory: Path) -> History:
    return find_steps(read(directory), "a stand-in", halves)


def test_times_of_a_case_are_in_the_order_in_which_they_were_stored_without_a_zone_in_utc(
    store: Store, tmp_path: Path
) -> None:
    store(1, {"a": 100.0, "b": 5.0}, datetime="2026-10-09T12:00:00")
    store(2, {"a": 200.0})
    (group,) = read(tmp_path).groups
    assert group.files == ("0002_stored.json", "0001_stored.json")
    a, b = sorted(group.trends, key=lambda trend: trend.case_id)
    assert [point.ns_per_call for point in a.points] == pytest.approx([200, 100])
    assert [(p.low_ns, p.high_ns) for p in b.points] == [pytest.approx((4.5, 5.5))]
    assert [point.commit for point in a.points] == ["2000000", "1000000+"]
    assert a.last_over_first == pytest.approx(0.5)


def test_times_of_another_environment_are_another_trend_but_not_of_what_no_time_depends_on(
    store: Store, tmp_path: Path
) -> None:
    others: list[dict[str, Any]] = [{"cpu": "Another"}, {"torch": "2.14.0"}, {"threads": 2}, {"malloc": "as found"}]
    for number, other in enumerate([{}, {"os": "another"}, *others]):
        store(number + 1, {"a": 1.0}, gate={"schema": 1, "environment": CPU | other})
    same, *groups = read(tmp_path).groups
    assert [len(group.trends[0].points) for group in (same, *groups)] == [2, 1, 1, 1, 1]
    apart = [dict(set(group.environment) - set(same.environment)) for group in groups]
    assert sorted(map(str, apart)) == sorted(str({name: str(v) for name, v in o.items()}) for o in others)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"benchmarks": {}}, "not stored by pytest-benchmark"),
        ({"gate": {"schema": 9, "environment": CPU}}, "has schema 9, this version reads 1"),
        ({"benchmarks": []}, "holds no times"),
        ({"benchmarks": [{}]}, "damaged (KeyError: 'stats')"),
        ({"benchmarks": [7]}, "damaged (TypeError:"),
        ({"datetime": "yesterday"}, "damaged (ValueError:"),
        (
            {"benchmarks": [{"name": "n", "stats": {"median": float("nan"), "q1": 1, "q3": 1}}]},
            "damaged (ValueError: n has a time that is not a positive number)",
        ),
    ],
)
def test_a_file_that_is_no_baseline_is_listed_and_the_others_are_read(
    store: Store, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    store(1, {"a": 1.0})
    store(2, {"a": 1.0}, **changes)
    history = read(tmp_path)
    assert len(history.trends) == 1
    ((name, seen),) = history.refused
    assert name == "Linux/0002_stored.json"
    assert reason in seen
    assert f"not read: {name}: {seen}" in summary(history)


@pytest.mark.parametrize("text", ["", "[]", "{", pytest.param(100_000 * "[", id="nested"), "\udcff"])
def test_a_file_that_is_no_json_is_listed_too(store: Store, tmp_path: Path, text: str) -> None:
    store(1, {"a": 1.0})
    (tmp_path / "foreign.json").write_text(text, errors="surrogateescape")
    assert [name for name, _ in read(tmp_path).refused] == ["foreign.json"]


def test_a_pipe_and_a_folder_are_not_read(store: Store, tmp_path: Path) -> None:
    store(1, {"a": 1.0})
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.json").mkdir()
    assert read(tmp_path).refused == (("a.json", "not a regular file"), ("b.json", "not a regular file"))


def test_no_baseline_at_all_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match=r"no baseline is stored in .*: store some with --benchmark-save=NAME"):
        read(tmp_path)
    (tmp_path / "foreign.json").write_text("{}")
    with pytest.raises(CannotDo, match=r"1 file refused; the first, foreign.json: not stored by pytest-benchmark"):
        read(tmp_path)


def test_steps_are_looked_for_in_trends_that_are_long_enough_at_a_level_for_all(store: Store, tmp_path: Path) -> None:
    for number in range(1, MIN_POINTS + 1):
        store(number, {"a": 100.0 + 10 * number, "b": 100.0} | ({"short": 1.0} if number > 1 else {}))
    asked = []

    def find(values: Sequence[float], max_pvalue: float) -> dict[int, float]:
        asked.append((len(values), max_pvalue))
        return halves(values, max_pvalue)

    history = find_steps(read(tmp_path), "a stand-in", find)
    a, b, short = history.trends
    assert asked == [(MIN_POINTS, LEVEL / 2)] * 2
    assert a.steps is not None
    assert a.net_ratio == pytest.approx(150 / 120)  # the medians of both halves
    assert b.steps == ()
    assert b.net_ratio == 1
    assert short.steps is None
    assert history.finder == "a stand-in"


def test_the_summary_names_each_step_counts_the_rest_and_points_at_the_machine_where_most_cases_step(
    store: Store, tmp_path: Path
) -> None:
    for number in range(1, 7):
        store(number, {"a": 1000.0 * number, "b": 100.0} | ({"c": 1.0} if number == 1 else {}))
    lines = list(summary(judged(tmp_path)))
    assert lines[0].endswith("change points by a stand-in, nominal p at most 0.001 over all trends")
    assert "A processor, torch 2.13.0, threads 1, fixed: 6 baselines, 0001_stored.json to 0006_stored.json" in lines
    assert "  a: 1 us to 6 us, +500.0%" in lines
    step = "150.0% slower from 0004_stored.json on (2026-10-04, commit 4000000): 2 us to 5 us, p = 1e-06"
    assert f"    {step}" in lines
    assert lines[-1] == f"  1 steady, 1 with fewer than {MIN_POINTS} baselines"
    assert judged(tmp_path).groups[0].shared_steps == []
    for number in range(1, 7):
        store(number, dict.fromkeys("abc", 100.0 + number) | {"d": 100.0})
    assert judged(tmp_path).groups[0].shared_steps == [("0004_stored.json", 3, 4)]
    assert "  3 of 4 cases step at 0004_stored.json: look at the machine before the code" in summary(judged(tmp_path))


def test_without_the_library_the_command_says_so_and_how_to_install_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.history.command.otava", lambda: None)
    store(1, {"a": 1000.0})
    html, report = tmp_path / "out" / "page.html", tmp_path / "out" / "report.json"
    assert main(["history", str(tmp_path), f"--html={html}", f"--json={report}"]) == 0
    shown = capsys.readouterr().out
    assert "change points were not looked for: pip install '.[history]'" in shown
    assert "  a: 1 us, one baseline" in shown
    assert "1 trend, not judged" in html.read_text()
    document = json.loads(report.read_text())
    assert document["change_points"] is None
    assert document["groups"][0]["trends"][0]["points"][0]["ns_per_call"] == pytest.approx(1000)
    assert document["groups"][0]["environment"]["torch"] == "2.13.0"


def test_with_the_library_the_command_writes_the_steps(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.history.command.otava", lambda: ("a stand-in", halves))
    for number in range(1, 7):
        store(number, {"a": 100.0 + number})
    assert main(["history", str(tmp_path), f"--json={tmp_path / 'report.json.txt'}"]) == 0
    (step,) = json.loads((tmp_path / "report.json.txt").read_text())["groups"][0]["trends"][0]["steps"]
    levels = {"before_ns": pytest.approx(102), "after_ns": pytest.approx(105)}
    assert step == {"index": 3, **levels, "pvalue": 1e-6, "end": 6}


def test_where_nothing_is_stored_or_can_be_written_the_command_says_so_and_ends_with_4(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", str(tmp_path / "none")]) == 4
    assert capsys.readouterr().err.startswith("error: no baseline is stored in")
    store(1, {"a": 1.0})
    assert main(["history", str(tmp_path), f"--html={tmp_path}"]) == 4
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} cannot be written (")


def test_a_name_that_the_output_cannot_hold_is_escaped(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(1, {"a": 1.0})
    (tmp_path / "\udcff.json").write_text("{}")
    assert main(["history", str(tmp_path)]) == 0
    assert "not read: \\udcff.json: not stored by pytest-benchmark" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_costs_no_file_and_prints_no_traceback(store: Store, tmp_path: Path) -> None:
    store(1, {"a": 1.0})
    command = [sys.executable, "-m", "bench", "history", str(tmp_path), f"--html={tmp_path / 'page.html'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY) as history:
        assert history.stdout is not None
        history.stdout.close()
        assert history.wait() == 141  # what a shell shows of anything that such a reader ends
        assert history.stderr is not None
        assert history.stderr.read() == b""
    assert (tmp_path / "page.html").exists()


def test_times_that_pytest_benchmark_stored_by_itself_are_trends_by_test(store: Store, tmp_path: Path) -> None:
    for number in range(1, 4):
        path = store(number, {"test_f": 100.0 * number})
        document = json.loads(path.read_text())
        del document["gate"]
        document["machine_info"] = {"cpu": {"brand_raw": "A processor"}, "python_version": "3.13.0"}
        document["benchmarks"][0] |= {"fullname": "benchmarks/test_f.py::test_f", "extra_info": {}}
        path.write_text(json.dumps(document))
    (group,) = read(tmp_path).groups
    assert group.environment == (("cpu", "A processor"), ("python", "3.13.0"))
    (trend,) = group.trends
    assert trend.case_id == "benchmarks/test_f.py::test_f"
    assert [point.ns_per_call for point in trend.points] == pytest.approx([100, 200, 300])
