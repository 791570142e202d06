"""A Triton kernel, gated on a GPU as its author would; without a GPU it is checked in Triton's interpreter."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

KERNEL = Path(__file__).with_name("triton_attention.py")
SUITE = Path(__file__).parents[2]
LARGE, SMALL = "attend-b4h16t4096d128-causal-bf16-cuda-fwd", "attend-b2h4t1d64-causal-fp32-cuda-fwd"
EDITS = {
    "as it is": ("", ""),
    "slower": ("ROWS, COLUMNS, WARPS = 64, 64, 4", "ROWS, COLUMNS, WARPS = 64, 16, 4"),
    "spilling registers": ("ROWS, COLUMNS, WARPS = 64, 64, 4", "ROWS, COLUMNS, WARPS = 128, 128, 2"),
    "wrong one key beyond a tile": (
        "seen = column[None, :] < n_keys\n",
        "seen = column[None, :] < n_keys - (n_keys % COLUMNS == 1)\n",
    ),
}
CAUGHT = {
    "as it is": {LARGE: "UNCHANGED", SMALL: "UNCHANGED"},
    "slower": {LARGE: "REGRESSED", SMALL: "UNCHANGED"},
    "spilling registers": {LARGE: "REGRESSED", SMALL: "UNCHANGED"},
    "wrong one key beyond a tile": {LARGE: "UNCHANGED", SMALL: "DRIFTED"},
}
ON_A_CPU = """
import torch
from fast import attend
from attention import KERNELS

torch.manual_seed(0)
cases = (((1, 2, 70, 32), (2, 70), False), ((2, 4, 70, 64), (2, 129), True), ((1, 2, 1, 16), (1, 65), True))
for shape, kv, causal in cases:
    q = torch.randn(shape)
    k, v = (torch.randn(shape[0], *kv, shape[3]) for _ in range(2))
    out = attend(q, k, v, causal=causal)
    print((out - KERNELS["masked"](q, k, v, causal=causal)).abs().max().item() < 1e-5)
"""


def written(folder: Path, edit: str) -> Path:
    """Write the kernel with an edit as a module ``fast`` in a folder."""
    right, wrong = EDITS[edit]
    text = KERNEL.read_text(encoding="utf-8")
    assert right in text
    folder.mkdir()
    (folder / "fast.py").write_text(text.replace(right, wrong) if right else text, encoding="utf-8")
    return folder


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed: pip install triton")
@pytest.mark.parametrize(("edit", "right"), [("as it is", True), ("wrong one key beyond a tile", False)])
def test_the_kernel_is_right_and_its_edit_wrong_in_triton_s_interpreter(
    tmp_path: Path, edit: str, *, right: bool
) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    paths = [str(written(tmp_path / "mine", edit)), str(SUITE), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", ON_A_CPU],
        env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", str(right), str(right)]


@pytest.mark.cuda
@pytest.mark.parametrize("edit", EDITS)
def test_what_an_edit_of_a_kernel_does_on_a_gpu_fails_its_gate(tmp_path: Path, edit: str) -> None:
    base, head, found = written(tmp_path / "base", "as it is"), written(tmp_path / "mine", edit), tmp_path / "gate.json"
    command = [sys.executable, "-m", "pytest", str(SUITE / "bench"), "-q", "-p", "no:cacheprovider", "--device=cuda"]
    command += ["--kernel=fast:attend", f"--gate-base={base}", f"--gate-json={found}", "-k", f"{LARGE}] or {SMALL}]"]
    done = subprocess.run(
        command,
        cwd=head,
        env={**os.environ, "PYTHONPATH": str(head)},
        capture_output=True,
        text=True,
        check=False,
    )
    document: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    verdicts = {case["id"]: case["verdict"] for case in document["cases"]}
    assert verdicts == CAUGHT[edit], done.stdout
    assert done.returncode == (0 if edit == "as it is" else 1)
