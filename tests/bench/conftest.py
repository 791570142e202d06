"""Sources of attention packages, written small, for tests of what loads and compares them."""

from collections.abc import Callable
from pathlib import Path

import pytest

KERNEL = """\
import torch
from .registry import register

@register("only")
def only(q, k, v, *, mask, causal, scale):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)
"""

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    """Write ``attention/`` with the given files (text by name) into a new directory and return that."""

    def write(**files: str) -> Path:
        root = tmp_path / "written" / "attention"
        root.mkdir(parents=True, exist_ok=True)
        for stem, text in files.items():
            (root / f"{stem}.py").write_text(text, encoding="utf-8")
        return root.parent

    return write
