"""Baselines that pytest-benchmark stored: of a clean checkout, of an edited one, and what is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.plain.errors import CannotDo
from bench.sessions import code, stored
from bench.sessions.stored import Stored
from bench.sources.repository import known_commit

from .conftest import MODULE, TEST, Make, Repository


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
    assert with_clean.reasons("test_f").startswith("the result is 2, and 1 in the base")
    with_edited = theirs.pytest(base=str(edited))
    assert with_edited.exit_code == 0, with_edited.output
    assert "base: baseline 0002_edited.json (" in with_edited.output
    assert "with 2 edited files), head: working tree (identical source)" in with_edited.output


def test_edits_are_made_in_a_checkout_and_nowhere_else(tmp_path: Path) -> None:
    checkout, precious = tmp_path / "checkout", tmp_path / "precious.py"
    precious.write_text("precious")
    (checkout / "package").mkdir(parents=True)
    for name in ("gone.py", "package/module.py", "script"):
        (checkout / name).touch()
    (checkout / "script").chmod(0o755)
    (checkout / "link.py").symlink_to(precious)
    edits = {"package": b"1", "package/module.py": None, "gone.py": None}
    edits |= dict.fromkeys(["a/b.py", "link.py", "script"], b"1")
    Stored("0" * 40, edits).apply(checkout)
    made = {path.relative_to(checkout).as_posix(): path.read_text() for path in checkout.rglob("*") if path.is_file()}
    assert made == dict.fromkeys(["package", "a/b.py", "link.py", "script"], "1")
    assert precious.read_text() == "precious"
    assert (checkout / "script").stat().st_mode & 0o111


def test_a_checkout_is_the_same_source_as_the_disk_with_a_submodule_and_with_data_that_git_does_not_track(
    repository: Make, tmp_path: Path
) -> None:
    theirs = repository({"m.py": "x = 1", "data.txt": "1"})
    theirs.git("init", "--quiet", "sub")
    Repository(theirs.path / "sub").commit({"n.py": "x = 1", ".gitignore": "built\n"})
    theirs.git("add", "sub")
    theirs.git("commit", "--quiet", "--message", "a submodule")
    theirs.write({"m.py": "x = 2", "new.py": "x = 1", "new.txt": "not tracked", "sub/built": "ignored"})
    commit, edits = known_commit(theirs.path, "HEAD"), stored._edits(theirs.path)
    checkout = code.of_commit(theirs.path, Stored(commit, edits), "edited", tmp_path / "scratch").sha256
    assert code.of_disk(theirs.path).sha256 == checkout
    theirs.write({"new.txt": "a report"})
    assert code.of_disk(theirs.path).sha256 == checkout
    for edited in ("sub/n.py", "sub/new.py", "data.txt"):
        theirs.write({edited: "x = 3"})
        assert code.of_disk(theirs.path).sha256 != checkout, edited
        checkout = code.of_disk(theirs.path).sha256


def test_a_long_name_of_no_baseline_is_refused_in_one_sentence(repository: Make, tmp_path: Path) -> None:
    theirs = repository({"m.py": "x = 1"})
    with pytest.raises(CannotDo, match=r"is no baseline of pytest-benchmark \(OSError"):
        code.of_name(theirs.path, f"{'x' * 300}.json", tmp_path)


def test_an_edited_submodule_is_no_part_of_a_baseline_and_another_repository_no_edit(
    repository: Make, tmp_path: Path
) -> None:
    theirs = repository({"m.py": "x = 1"})
    for name in ("other", "sub"):
        theirs.git("init", "--quiet", name)
        Repository(theirs.path / name).commit({"n.py": "x = 1"})
    theirs.git("add", "sub")
    theirs.git("commit", "--quiet", "--message", "a submodule")
    assert stored.our_part(theirs.path) is None
    theirs.write({"sub/n.py": "x = 2"})
    part = stored.our_part(theirs.path)
    assert part is not None
    assert part["refused"].startswith("sub is a submodule that differed from the commit")


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
