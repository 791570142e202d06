"""Files appear whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.plain.errors import CannotDo
from bench.plain.files import check_writable, make_way, write_atomically


def test_a_file_is_written_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.json"
    write_atomically(path, "text ü")
    assert path.read_text(encoding="utf-8") == "text ü"
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_write_cut_short_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, "old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_the_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ours", "x")
    (tmp_path / "ordinary").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    link.symlink_to(target)
    for text in ("new", "newer"):
        write_atomically(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert [p.name for p in target.parent.iterdir()] == ["target"]


def test_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    write_atomically(pipe, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_device_stays_one(tmp_path: Path) -> None:
    link = tmp_path / "link"  # were it replaced, the machine would still have its own
    link.symlink_to("/dev/null")
    write_atomically(link, "text")
    assert link.is_char_device()
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize("refuse", [check_writable, lambda path: write_atomically(path, "text")])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, refuse: Callable[[Path], None]) -> None:
    (tmp_path / "file").write_text("old")
    for path, why in (
        (tmp_path / "file" / "x", "File exists|Not a directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / (1000 * "x"), "File name too long"),
    ):
        with pytest.raises(CannotDo, match=rf"^{path} cannot be written \(({why})\): choose another place$"):
            refuse(path)
    assert (tmp_path / "file").read_text() == "old"


def test_asking_first_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    for name in ("old", "new"):
        check_writable(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"


def test_text_that_utf_8_cannot_hold_is_escaped(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", "ü \udcff")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "ü \\udcff"


def test_a_name_as_long_as_a_name_can_be_is_written_and_a_longer_one_refused_before(tmp_path: Path) -> None:
    longest = tmp_path / ("x" * 250 + ".json")
    check_writable(longest)
    write_atomically(longest, "text")
    assert longest.read_text() == "text"
    with pytest.raises(CannotDo, match="cannot be written"):
        check_writable(tmp_path / ("x" * 251 + ".json"))


@pytest.mark.parametrize("standing", ["link to a file", "link to a folder", "broken link", "file", "folder", "nothing"])
@pytest.mark.parametrize("place", ["a", "a/b", "a/b/c.py"])
def test_what_stands_in_the_way_of_a_file_is_removed_and_nothing_outside(
    tmp_path: Path, standing: str, place: str
) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    (outside / "b").mkdir(parents=True)
    precious = [outside / "c.py", outside / "b" / "c.py"]
    for file in precious:
        file.write_text("precious")
    there = root / place
    there.parent.mkdir(parents=True)
    if "link" in standing:
        there.symlink_to({"link to a file": precious[0], "link to a folder": outside}.get(standing, outside / "none"))
    elif standing == "file":
        there.touch()
    elif standing == "folder":
        there.mkdir()
        (there / "other").touch()
    make_way(root / "a" / "b" / "c.py", root)
    (root / "a" / "b" / "c.py").write_text("new")
    assert (root / "a" / "b" / "c.py").resolve().is_relative_to(root.resolve())
    assert [file.read_text() for file in precious] == ["precious", "precious"]
    assert (there / "other").exists() == (standing == "folder" and place != "a/b/c.py")
