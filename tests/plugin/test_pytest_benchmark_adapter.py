"""The contract with pytest-benchmark's private parts: what the adapter relies on, version by version."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_benchmark.storage.file import FileStorage

from bench import pytest_benchmark_adapter as adapter
from bench.plain.errors import CannotDo


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A configuration with the parts of a benchmark session that the adapter touches."""
    monkeypatch.chdir(tmp_path)
    logger = SimpleNamespace(info=lambda *_, **__: None)
    storage = FileStorage("store", logger, default_machine_id="Here-CPython-3.11-64bit")
    session = SimpleNamespace(storage=storage, save="x", autosave=None, json="out.json", logger=logger)
    return SimpleNamespace(_benchmarksession=session, option=SimpleNamespace())


def store(config: Any, *names: str) -> None:
    for name in names:
        path = Path("store") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


@pytest.mark.parametrize(
    ("stored", "wanted", "found"),
    [
        (["Here-CPython-3.11-64bit/0001_a.json", "Here-CPython-3.11-64bit/0002_b.json"], True, "0002_b.json"),
        (["Other-CPython-3.12-64bit/0009_a.json", "Here-CPython-3.11-64bit/0002_b.json"], True, "0002_b.json"),
        (["Other-CPython-3.12-64bit/0009_a.json"], True, "0009_a.json"),
        (["Here-CPython-3.11-64bit/0001_a.json", "Here-CPython-3.11-64bit/0002_b.json"], "0001", "0001_a.json"),
        (["Other-CPython-3.12-64bit/0009_a.json"], "0009", "0009_a.json"),
        (["Here-CPython-3.11-64bit/1000_a.json", "Other-CPython-3.12-64bit/0001_b.json"], "1", "0001_b.json"),
        (["elsewhere.json"], "store/elsewhere.json", "elsewhere.json"),
    ],
)
def test_the_baseline_that_is_meant_is_found(config: Any, stored: list[str], wanted: str | bool, found: str) -> None:
    store(config, *stored)
    assert adapter.find_baseline(config, wanted).name == found


def test_an_ambiguous_number_names_what_it_matches(config: Any) -> None:
    store(config, "Here-CPython-3.11-64bit/0001_a.json", "Here-CPython-3.11-64bit/0002_b.json")
    with pytest.raises(CannotDo, match="matches 0001_a.json, 0002_b.json: give its number or its path"):
        adapter.find_baseline(config, "000")


@pytest.mark.parametrize("wanted", ["0007", "a/b/c", "/no-such.json", 5000 * "x"])
def test_a_name_that_matches_no_baseline_is_refused(config: Any, wanted: str) -> None:
    with pytest.raises(CannotDo, match=f"^--benchmark-compare={wanted} should match one baseline in .* matches none"):
        adapter.find_baseline(config, wanted)


def test_a_storage_without_a_baseline_and_a_directory_taken_for_its_id_are_explained(config: Any) -> None:
    with pytest.raises(CannotDo, match="^no baseline is stored in .*: store one with --benchmark-save=NAME$"):
        adapter.find_baseline(config, True)
    Path("bench").mkdir()
    with pytest.raises(CannotDo, match="^--benchmark-compare took 'bench' as the id of a baseline: write it last, or"):
        adapter.find_baseline(config, "bench")


@pytest.mark.parametrize("place", ["file/times.json", "."])
def test_a_file_of_times_that_cannot_be_written_is_refused_before_it_is_needed(config: Any, place: str) -> None:
    Path("file").touch()
    config._benchmarksession.json = place
    with pytest.raises(CannotDo, match=f"^{re.escape(place)} cannot be written "):
        adapter.save_atomically(config)


def test_a_storage_that_is_no_directory_is_refused(config: Any) -> None:
    config._benchmarksession.storage = object()
    with pytest.raises(CannotDo, match="from files only"):
        adapter.find_baseline(config, True)


def test_saving_numbers_the_files_and_leaves_no_temporary_one(config: Any) -> None:
    adapter.save_atomically(config)
    for name in ("a", "b"):
        config._benchmarksession.storage.save({"benchmarks": []}, name)
    folder = Path("store/Here-CPython-3.11-64bit")
    assert sorted(p.name for p in folder.iterdir()) == ["0001_a.json", "0002_b.json"]
    assert json.loads((folder / "0001_a.json").read_text()) == {"benchmarks": []}
    config._benchmarksession.save_json({"n": 1, "error": float("inf")})  # as of a result of another dtype
    assert json.loads(Path("out.json").read_text(), parse_constant=pytest.fail) == {"n": 1, "error": None}


def test_withheld_saving_says_whether_any_was_asked_for(config: Any) -> None:
    assert adapter.withhold_saving(config)
    assert not adapter.withhold_saving(config)


def test_timings_taken_elsewhere_become_statistics_per_call(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # the outer run's business
    pytester.makepyfile(
        "from bench import pytest_benchmark_adapter\n"
        "def test_it(benchmark): pytest_benchmark_adapter.give_timings(benchmark, [0.2, 0.4, 0.6], 2)\n"
    )
    assert pytester.runpytest_inprocess("-p", "bench.plugin", "--benchmark-json=out.json").ret == 0
    (entry,) = json.loads((pytester.path / "out.json").read_text())["benchmarks"]
    assert entry["stats"]["median"] == pytest.approx(0.2)
    assert entry["stats"]["rounds"] == 3
    assert entry["stats"]["iterations"] == 2
