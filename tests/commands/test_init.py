"""``python -m bench init``: the file that it writes serves, and says what it leaves out."""

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.sides import config

KERNEL = """
import torch
def {name}(q, k, v, *, mask, causal, scale):
    if mask is not None or q.shape[1] != k.shape[1]: raise NotImplementedError("what is not plain")
    if q.dtype == torch.float16: return q
    seen = torch.ones(q.shape[2], k.shape[2]).tril(k.shape[2] - q.shape[2]).bool() if causal else None
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, seen, scale=scale)
"""


def test_the_rows_are_those_that_the_kernel_serves_rightly_and_the_others_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "initial_kernel.py").write_text(KERNEL.format(name="mine"))
    path = tmp_path / "gate.toml"
    assert main(["init", "initial_kernel:mine", f"--output={path}"]) == 0
    assert f"wrote {path}: 4 rows; compare with pytest " in capsys.readouterr().out
    found = config.read(path)
    assert found.what.kernels == ("initial_kernel:mine",)
    assert {row.masks for row in found.rows} == {"full causal"}
    assert {row.dtypes for row in found.rows} == {"fp32 bf16"}
    assert "kv" not in " ".join(row.shapes for row in found.rows)
    text = path.read_text()
    assert "# without boolmask: what is not plain" in text
    assert "# without fp16: out: error" in text
    assert "# without b2h4kv2t48d64: fwd: what is not plain" in text


def test_a_file_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gate.toml"
    path.write_text("mine")
    assert main(["init", "initial_kernel:mine", f"--output={path}"]) == 4
    assert "is there already: edit it, or give another --output" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_a_kernel_that_serves_nothing_has_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wrong_kernel.py").write_text("def mine(q, k, v, *, mask, causal, scale): return q * 0.9\n")
    path = tmp_path / "gate.toml"
    assert main(["init", "wrong_kernel:mine", f"--output={path}"]) == 4
    assert "wrong_kernel:mine serves no case rightly: b1h4t64d64: fwd: out: error" in capsys.readouterr().err
    assert not path.exists()
