"""``python -m bench init``: the file that it writes serves, and says what it leaves out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from attention import KERNELS
from attention.registry import Capabilities, Kernel
from bench.__main__ import main
from bench.commands import init
from bench.sources.target import Target
from bench.suite import config
from bench.suite.covering import KERNEL_AXES
from bench.suite.matrix import checked_rows, matrix
from bench.suite.side import Side

KERNEL = """
import torch
def {name}(q, k, v, *, mask, causal, scale):
    if mask is not None or q.shape[1] != k.shape[1]: raise NotImplementedError("what is not plain")
    if q.dtype == torch.float16: return q
    seen = torch.ones(q.shape[2], k.shape[2]).tril(k.shape[2] - q.shape[2]).bool() if causal else None
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, seen, scale=scale)
"""


@pytest.fixture
def without_covering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the covering array, which takes a second."""
    monkeypatch.setattr(init, "fitting_covering", lambda *_: None)


@pytest.mark.usefixtures("without_covering")
def test_the_rows_are_those_that_the_kernel_serves_rightly_and_the_others_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "initial_kernel.py").write_text(KERNEL.format(name="mine"))
    path = tmp_path / "gate.toml"
    assert main(["init", "initial_kernel:mine", f"--output={path}"]) == 0
    assert f"wrote {path}: 4 rows; compare with pytest " in capsys.readouterr().out
    found = config.read(path)
    assert found.target.kernels == ("initial_kernel:mine",)
    assert {row.masks for row in found.own_rows} == {"full causal", "causal"}
    assert {row.dtypes for row in found.own_rows} == {"fp32 bf16"}
    assert "kv" not in " ".join(row.shapes for row in found.own_rows)
    text = path.read_text()
    assert "# without boolmask: what is not plain" in text
    assert "# without fp16: out: error" in text
    assert "# without b2h4kv2t48d64: fp32: what is not plain" in text


def test_a_file_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gate.toml"
    path.write_text("mine")
    assert main(["init", "initial_kernel:mine", f"--output={path}"]) == 4
    assert "exists: edit it, or give another --output" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_a_kernel_that_serves_nothing_has_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "DRAFTS", init.DRAFTS[:2])
    (tmp_path / "wrong_kernel.py").write_text("def mine(q, k, v, *, mask, causal, scale): return q * 0.9\n")
    path = tmp_path / "gate.toml"
    assert main(["init", "wrong_kernel:mine", f"--output={path}"]) == 4
    assert "wrong_kernel:mine is right in no case: b1h4t64d64: fp32: out: error" in capsys.readouterr().err
    assert not path.exists()


def test_a_kernel_of_half_precision_has_rows_in_it_of_all_that_it_serves(
    half_precision: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "gate.toml"
    assert main(["init", half_precision(), f"--output={path}"]) == 0
    rows = config.read(path).own_rows
    assert {row.dtypes for row in rows} == {"bf16 fp16", "bf16"}
    assert {word for row in rows for word in row.masks.split()} == {"full", "causal", "window16", "causalwindow16"}
    assert {row.dtypes for row in config.read(path).checked} == {"bf16"}
    assert all("causalwindow16" in row.masks and "fwdbwd" in row.directions for row in rows[:2])
    covering = config.read(path).covering
    assert covering is not None
    words = dict(covering.axes)
    assert words["dtype"] == ("bf16", "fp16")
    assert words["mask"] == ("full", "causal", "window7", "causalwindow40")
    assert words["layout"] == KERNEL_AXES["layout"]


@pytest.mark.parametrize(
    ("wants", "axis", "words"),
    [
        (lambda q: q.is_contiguous(), "layout", [""]),
        (lambda q: q.shape[-1] == 128, "head_size", ["d128"]),
    ],
)
def test_what_a_kernel_wants_of_its_inputs_costs_no_other_word(
    wants: Callable[[Tensor], bool], axis: str, words: list[str]
) -> None:
    def serve(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
        if not (wants(q) and wants(k)):
            raise RuntimeError("not as wanted")
        return sdpa(q, k, v, scale=scale, enable_gqa=True)

    capabilities = Capabilities(masks=frozenset(), causal=False, value_size=True)
    found = init.fitting_covering(Side("head", {"serve": Kernel("serve", serve, capabilities)}, {}), ("cpu",))
    assert found is not None
    axes = dict(found.covering.axes)
    assert axes[axis] == words
    assert axes["heads"] == list(KERNEL_AXES["heads"])


def test_a_word_that_fails_beside_others_alone_is_left_out_of_the_covering_array() -> None:
    def serve(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
        if mask is not None or causal:
            raise NotImplementedError("what is not plain")
        out = sdpa(q, k, v, scale=scale, enable_gqa=True)
        return out if q.shape[0] < 3 or q.dtype != torch.bfloat16 else out * 2  # wrong for three items in bf16

    capabilities = Capabilities(masks=frozenset(), causal=False)
    head = Side("head", {"serve": Kernel("serve", serve, capabilities)}, {})
    found = init.fitting_covering(head, ("cpu",))
    assert found is not None
    (apart,) = found.left_out.keys() & {"b3", "bf16"}  # one of them is enough
    assert found.left_out[apart].startswith("out: error ")
    assert found.left_out["causal"] == "serve does not support causal attention"
    assert set(dict(found.covering.axes)["head_size"]) == set(KERNEL_AXES["head_size"])


FAULTS = {
    "the scale taken for a missing one where it is 0": "b1h2t24d8scale0-causal-fp32-fwdbwd",
    "the first head's mask for all": "b2h2t20k28d64-boolmaskbhqk-fp32-fwdbwd",
    "no causal beside a mask": "b2h2t20k28d64-causaltruemask-fp32-fwd",
    "no queries beyond the keys": "b1h3t70k20d64-full-fp32-fwdbwd",
    "no causal below 16 keys": "b1h4t2k9d64-causal-fp32-fwd",
    "a mask of two dimensions taken for one of items and keys": "b3h3t3d64-boolmaskqk-fp32-fwdbwd",
}


def test_cases_of_the_suite_in_which_the_kernel_is_wrong_are_left_out_and_the_others_kept(tmp_path: Path) -> None:
    def serve(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
        if fault.startswith("the scale"):
            scale = scale or None
        if fault.startswith("the first head") and mask is not None and mask.dim() == 4:
            mask = mask[:, :1]
        if fault.startswith("no causal beside"):
            causal = causal and mask is None
        if fault.startswith("no causal below"):
            causal = causal and k.shape[2] >= 16
        if fault.startswith("a mask of two") and mask is not None and mask.dim() == 2 and len(mask) == len(q):
            mask = mask[:, None, None]
        out = KERNELS["sdpa"](q, k, v, mask=mask, causal=causal, scale=scale)
        return torch.cat([out[:, :, : k.shape[2]], 0 * out[:, :, k.shape[2] :]], 2) if fault.startswith("no q") else out

    head = Side("head", {"serve": Kernel("serve", serve, replace(KERNELS["sdpa"].capabilities, window=False))}, {})
    fault = ""
    right = init.fitting_checked(head, ("cpu",), "fp32 bf16")
    assert right == init.FoundChecked(None, {})
    for fault, case in FAULTS.items():
        found = init.fitting_checked(head, ("cpu",), "fp32 bf16")
        assert case in found.left_out, fault
        assert len(found.left_out) < 40, fault
    target = Target(("serving:serve",))
    path = tmp_path / "gate.toml"
    path.write_text(init.as_toml(target, (), found, None))
    rows = config.read(path).checked
    assert [replace(row, without="") for row in rows] == [*checked_rows()]
    kept = set(matrix(head.kernels, {}, None, ["cpu"], checked_rows())) - set(
        matrix(head.kernels, {}, None, ["cpu"], rows)
    )
    assert {case.words for case in kept} == found.left_out.keys()


@pytest.mark.usefixtures("without_covering")
def test_a_direction_is_kept_where_every_dtype_that_is_kept_serves_it(tmp_path: Path) -> None:
    text = (
        "import torch\n"
        "def mine(q, k, v, *, mask, causal, scale):\n"
        "    if mask is not None or causal: raise NotImplementedError('what is not plain')\n"
        "    if q.dtype == torch.float32: raise NotImplementedError('only half')\n"
        "    if q.dtype == torch.float16 and torch.is_grad_enabled(): raise NotImplementedError('no fp16')\n"
        "    return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)\n"
    )
    (tmp_path / "forward_kernel.py").write_text(text)
    path = tmp_path / "gate.toml"
    assert main(["init", "forward_kernel:mine", f"--output={path}"]) == 0
    assert {(row.dtypes, row.directions) for row in config.read(path).own_rows} == {
        ("bf16 fp16", "fwd"),
        ("bf16", "fwd"),
    }
    assert "# without fwdbwd: no fp16" in path.read_text()


@pytest.mark.usefixtures("without_covering")
def test_a_kernel_that_serves_causal_attention_alone_has_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "DRAFTS", init.DRAFTS[:1])
    text = KERNEL.format(name="mine").replace("if mask is not None", "if not causal or mask is not None")
    (tmp_path / "causal_kernel.py").write_text(text)
    path = tmp_path / "gate.toml"
    assert main(["init", "causal_kernel:mine", f"--output={path}"]) == 0
    assert {(row.masks, row.dtypes) for row in config.read(path).own_rows} == {("causal", "fp32 bf16")}
    assert "# without full: what is not plain" in path.read_text()
