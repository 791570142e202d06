"""Resuming: finished parts are kept, and count only for the same machine, code and budget."""

import json
from functools import partial
from pathlib import Path

import pytest

from bench.study.command import measure_parts
from bench.study.results import Series
from bench.study.setting import Part, Setting
from bench.study.store import Store, digest
from bench.study.subjects import Subjects

HERE = {"cpu": "this one", "attention": "1a2b", "budget": 480.0}


class Stopped(BaseException):
    """What a user's Ctrl-C or a kill does to a part."""


def part(name: str, done: list[str], *, stop: bool = False) -> Part:
    def measure(setting: Setting) -> list[Series]:
        if stop:
            raise Stopped
        done.append(name)
        return [Series(name, setting.device, "by hand", "case", "ns", (1.0, 2.0), None)]

    return Part(name, "cpu", 1, measure)


def test_a_run_that_was_stopped_goes_on_after_the_last_finished_part(tmp_path: Path) -> None:
    done: list[str] = []
    first = [part("one", done), part("two", done, stop=True), part("three", done)]
    with pytest.raises(Stopped):
        measure_parts(first, Store(tmp_path / "parts.json", HERE), Subjects(), 1.0)
    again = [part(name, done) for name in ("one", "two", "three")]
    store = Store(tmp_path / "parts.json", HERE)
    measure_parts(again, store, Subjects(), 1.0)
    assert done == ["one", "two", "three"]
    assert [s.part for s in store.results.series] == ["one", "two", "three"]
    assert store.results.series[0] == Series("one", "cpu", "by hand", "case", "ns", (1.0, 2.0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cpu": "another"}, "another cpu"),
        ({"attention": "3c4d"}, "another attention"),
        ({"budget": 2.0}, "another budget"),
        ({"gpu": "new"}, "another gpu"),
    ],
)
def test_parts_of_another_machine_source_or_budget_do_not_count(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    Store(tmp_path / "parts.json", HERE).add("one", [], 1.0)
    other = Store(tmp_path / "parts.json", {**HERE, **change})
    assert "one" not in other
    assert other.discarded == f"{tmp_path / 'parts.json'} was measured with {said}"
    assert "one" in Store(tmp_path / "parts.json", HERE)


def test_fresh_starts_anew(tmp_path: Path) -> None:
    Store(tmp_path / "parts.json", HERE).add("one", [], 1.0)
    fresh = Store(tmp_path / "parts.json", HERE, fresh=True)
    assert "one" not in fresh
    assert fresh.discarded is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"identity": {}}'])
def test_a_file_that_cannot_be_read_does_not_count_and_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "parts.json").write_text(text)
    store = Store(tmp_path / "parts.json", HERE)
    assert store.discarded is not None
    assert "cannot be read" in store.discarded


def test_a_missing_reason_survives_the_file(tmp_path: Path) -> None:
    missing = Series("one", "cpu", "sdpa", "case", "ns", missing="does not fit")
    Store(tmp_path / "parts.json", HERE).add("one", [missing], 1.0)
    assert Store(tmp_path / "parts.json", HERE).results.series == (missing,)
    assert json.loads((tmp_path / "parts.json").read_text())["identity"]["schema"] == 1


def test_the_digest_changes_with_a_byte_of_the_code_and_not_with_the_order_of_the_files(tmp_path: Path) -> None:
    paths = [tmp_path / "a.py", tmp_path / "b.py"]
    for path in paths:
        path.write_text("x = 1")
    before = digest(paths)
    assert digest(reversed(paths)) == before
    paths[0].write_text("x = 2")
    assert digest(paths) != before


def test_later_parts_get_less_time_where_earlier_ones_overran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, given = [0.0], []
    monkeypatch.setattr("bench.study.command.time.monotonic", lambda: now[0])

    def measure(setting: Setting, takes: float) -> list[Series]:
        given.append(setting.budget_s)
        now[0] += takes
        return []

    parts = [Part(str(i), "cpu", 1, partial(measure, takes=t)) for i, t in enumerate((70.0, 10.0, 1.0, 1.0))]
    measure_parts(parts, Store(tmp_path / "parts.json", HERE), Subjects(), 100.0)
    assert given == pytest.approx([25.0, 10.0, 10.0, 19.0])


def test_no_part_gets_much_more_than_its_share(tmp_path: Path) -> None:
    given = []

    def measure(setting: Setting) -> list[Series]:
        given.append(setting.budget_s)
        return []

    parts = [Part(str(i), "cpu", 1, measure) for i in range(4)]
    measure_parts(parts, Store(tmp_path / "parts.json", HERE), Subjects(), 100.0)
    assert given[0] == pytest.approx(25.0, rel=0.01)
    assert max(given) <= 1.5 * 25.0
