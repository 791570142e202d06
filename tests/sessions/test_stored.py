"""Baselines that pytest-benchmark stored: of a clean checkout, of an edited one, and what is none."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.plain.errors import CannotDo
from bench.sessions import stored
from bench.sessions.stored import Stored

from .conftest import Repository

Make = Callable[[Mapping[str, str]], Repository]
MODULE = "def f():\n    return {value}\n"
TEST = "import m\n\ndef test_f(benchmark):\n    benchmark(m.f)\n"


def test_a_run_is_compared_with_the_code_that_a_stored_one_measured(repository: Make) -> None:
    theirs = repository({"m.py": MODULE.format(value=1), "conftest.py": "", "benchmarks/test_f.py": TEST})
    short = ("--benchmark-max-time=0.01",)
    assert theirs.pytest("benchmarks", "--benchmark-save=clean", *short, base=None).exit_code == 0
    theirs.write({"m.py": MODULE.format(value=2), "new.py": "VALUE = 2\n"})
    assert theirs.pytest("benchmarks", "--benchmark-save=edited", *short, base=None).exit_code == 0
    clean, edited = sorted((theirs.path / ".benchmarks").glob("*/*.json"))
    assert stored.KEY not in json.loads(clean.read_text())
    assert stored.read(edited).edits == {"m.py": b"def f():\n    return 2\n", "new.py": b"VALUE = 2\n"}
    with_clean = theirs.pytest(base=str(clean))
    assert with_clean.exit_code == 1, with_clean.output
    assert with_clean.reasons("test_f") == "the result is 2, and 1 in the base"
    with_edited = theirs.pytest(base=str(edited))
    assert with_edited.exit_code == 0, with_edited.output
    assert "base: baseline 0002_edited.json (" in with_edited.output
    assert "with 2 edited files), head: working tree (identical source)" in with_edited.output


def test_edits_are_made_in_a_checkout(tmp_path: Path) -> None:
    (tmp_path / "gone.py").touch()
    Stored("0" * 40, {"gone.py": None, "a/b.py": b"1"}).apply(tmp_path)
    assert not (tmp_path / "gone.py").exists()
    assert (tmp_path / "a" / "b.py").read_bytes() == b"1"


def test_edits_that_are_too_large_leave_pytest_benchmark_s_file_as_it_is(
    repository: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = repository({"m.py": "x = 1"})
    theirs.write({"data.bin": "x" * 100})
    monkeypatch.setattr(stored, "MOST_BYTES", 99)
    part = stored.our_part(theirs.path)
    assert part is not None
    assert "commit them, or let git ignore what is no source" in part["refused"]
    path = tmp_path / "0001_x.json"
    path.write_text(json.dumps({"commit_info": CLEAN, stored.KEY: part}))
    with pytest.raises(CannotDo, match=r"0001_x\.json holds no code: 0 MiB of files differed from the commit"):
        stored.read(path)


CLEAN = {"id": "0" * 40, "dirty": False}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "is no baseline of pytest-benchmark (FileNotFoundError"),
        ([], "is no baseline of pytest-benchmark (TypeError"),
        ({}, "is no baseline of pytest-benchmark (KeyError"),
        ({"commit_info": {"id": "unknown"}}, "was stored outside of git, so its code is not known"),
        ({"commit_info": {**CLEAN, "dirty": True}}, "was stored with edits that it does not hold"),
        ({"commit_info": CLEAN, "twinbench": {"edits": {"../x": ""}}}, "names files outside of the repository"),
        ({"commit_info": CLEAN, "twinbench": {"edits": {"x": "?"}}}, "is no baseline of pytest-benchmark"),
    ],
)
def test_what_is_no_baseline_is_refused_in_one_sentence(tmp_path: Path, document: Any, said: str) -> None:
    path = tmp_path / "0001_x.json"
    if document is not None:
        path.write_text(json.dumps(document))
    with pytest.raises(CannotDo) as refused:
        stored.read(path)
    assert str(refused.value).startswith(f"{path} {said}")
    assert str(refused.value).endswith(("store one anew with --benchmark-save=NAME", "in a git repository"))
