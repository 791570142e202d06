"""The demonstration; ``make demo`` itself runs in ``.ci/run``."""

import shutil
from pathlib import Path

import pytest

from bench.plain.errors import CannotDo
from bench.selftest.demo import OTHER, OURS, Edit, Scene, plant


@pytest.mark.parametrize(
    ("scene", "edit"),
    [(scene, edit) for scene in (OTHER, OURS) for edit in scene.edits],
    ids=lambda one: one.title if isinstance(one, Scene) else one.case,
)
def test_each_edit_finds_its_line_and_leaves_python(scene: Scene, edit: Edit, tmp_path: Path) -> None:
    shutil.copytree(scene.package, tmp_path / scene.package.name)
    lines = list(plant(edit, tmp_path))
    assert sum(line.startswith("+ ") for line in lines) == 1
    text = (tmp_path / edit.file).read_text()
    assert edit.after in text
    compile(text, edit.file, "exec")


def test_a_file_that_has_changed_is_named(tmp_path: Path) -> None:
    (tmp_path / "attention").mkdir()
    (tmp_path / "attention" / "masked.py").write_text("another kernel")
    with pytest.raises(CannotDo, match=r"attention/masked\.py has changed"):
        plant(OURS.edits[0], tmp_path)
