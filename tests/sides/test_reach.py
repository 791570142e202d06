"""Code beside a source, in its repository: named wherever it is imported; other packages are nobody's business."""

import sys
from pathlib import Path

import pytest

from bench.plain.errors import CannotDo
from bench.sides.reach import in_repository, refuse_code_outside


def refuse(tmp_path: Path, text: str, *names: str) -> None:
    file = tmp_path / "attention" / "__init__.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    refuse_code_outside([file], ["attention", *names], tmp_path, "the head")


@pytest.fixture(autouse=True)
def _beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels_lib.py").write_text("X = 1\n")
    (tmp_path / "kernels_package").mkdir()
    (tmp_path / "kernels_package" / "__init__.py").write_text("X = 1\n")
    (tmp_path / "kernels_namespace").mkdir()
    (tmp_path / "kernels_namespace" / "part.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "import kernels_lib",
        "from kernels_lib import X",
        "import kernels_package.inner as y",
        "def kernel():\n    import kernels_lib",
        "try:\n    from kernels_lib import X\nexcept ImportError: pass",
        "import importlib\nm = importlib.import_module('kernels_lib')",
        "m = __import__('kernels_lib')",
        "from kernels_namespace import part",
        "from importlib.resources import files\nfiles('kernels_package')",
    ],
)
def test_a_module_beside_the_source_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    with pytest.raises(CannotDo, match=r"the head imports kernels_\w+ \(__init__.py, line \d\).*: give --source="):
        refuse(tmp_path, f"{text}\n")


@pytest.mark.parametrize(
    "text", ["import torch", "import json, os.path", "from . import inner", "import no_such", "def"]
)
def test_installed_packages_and_the_source_s_own_are_not(tmp_path: Path, text: str) -> None:
    refuse(tmp_path, f"{text}\nimport attention.inner\n")


def test_what_was_made_part_of_the_source_is_not(tmp_path: Path) -> None:
    refuse(tmp_path, "import kernels_lib\n", "kernels_lib")


def test_an_environment_inside_of_the_repository_is_not_its_code() -> None:
    assert not in_repository(Path(pytest.__file__), Path(sys.prefix).parent)
    assert in_repository(Path(__file__), Path(__file__).parents[2])
