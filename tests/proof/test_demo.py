"""The demonstration; ``make demo`` itself runs in ``.ci/run``."""

import shutil
from pathlib import Path

import pytest

from bench.plain.errors import CannotDo
from bench.proof.demo import EDITS, Edit, plant
from bench.sides.what import SUITE


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.kernel)
def test_each_edit_finds_its_line_and_leaves_python(edit: Edit, tmp_path: Path) -> None:
    shutil.copytree(SUITE / "attention", tmp_path / "attention")
    lines = list(plant(edit, tmp_path))
    assert sum(line.startswith("+ ") for line in lines) == 1
    text = (tmp_path / "attention" / f"{edit.kernel}.py").read_text()
    assert edit.after in text
    compile(text, edit.kernel, "exec")


def test_a_kernel_that_has_changed_is_named(tmp_path: Path) -> None:
    (tmp_path / "attention").mkdir()
    (tmp_path / "attention" / "masked.py").write_text("another kernel")
    with pytest.raises(CannotDo, match=r"attention/masked\.py has changed"):
        plant(EDITS[0], tmp_path)
