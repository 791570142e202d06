"""Tensor-parallel attention: two gloo processes against one, its launcher, and what is refused."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attention import MultiHeadAttention, tensor_parallel

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    """Run ``sharing.py``, which ends with the launcher, as ranks 0 and 1; returns the exit code and output of each."""
    meeting_place = tmp_path_factory.mktemp("meet")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {"WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, REPOSITORY / "tests" / "attention" / "sharing.py", meeting_place, rank],
            cwd=REPOSITORY,
            env=environment | {"RANK": rank, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


def test_two_processes_give_the_outputs_gradients_and_decoding_of_one(ended: list[tuple[int, str]]) -> None:
    assert [code for code, _ in ended] == [0, 0], ended


def test_the_launcher_checks_and_times_every_mask(ended: list[tuple[int, str]]) -> None:
    (code, shown), other = ended
    assert (code, other) == (0, (0, "")), shown
    rows = re.findall(r"^mha-b1h4kv2t16d8-(\w+)-fp32-cpu-fwdbwd +\d+\.\d{3} .* \d+%$", shown, flags=re.MULTILINE)
    assert rows == ["full", "causal", "boolmask", "floatmask"]


def test_the_launcher_says_how_it_is_started(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from bench.study import tensor_parallel as launcher  # noqa: PLC0415  # it needs torch.distributed, and takes a second

    monkeypatch.delenv("RANK", raising=False)
    assert launcher.main([]) == 4
    assert "torchrun --nproc-per-node=2 -m bench.study.tensor_parallel" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sizes", "mesh", "message"),
    [
        ((30, 3, 3), (1, 2), "n_heads and n_kv_heads must be multiples of the mesh's size, for each process to hold "
         "whole heads; saw 3, 3 and 2"),
        ((32, 4, 2), (1, 4), "n_heads and n_kv_heads must be multiples of the mesh's size, for each process to hold "
         "whole heads; saw 4, 2 and 4"),
        ((32, 4, 4), (2, 4), "the mesh must have one dimension, such as mesh['tp']; saw 2"),
    ],
)  # fmt: skip
def test_heads_that_a_mesh_cannot_share_out_are_refused(
    sizes: tuple[int, int, int], mesh: tuple[int, int], message: str
) -> None:
    d_model, n_heads, n_kv_heads = sizes
    stand_in: Any = SimpleNamespace(ndim=mesh[0], size=lambda: mesh[1])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        tensor_parallel(MultiHeadAttention(d_model, n_heads, n_kv_heads=n_kv_heads), stand_in)


def test_a_torch_without_distributed_serves_all_else_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    with pytest.raises(NotImplementedError, match=r"tensor_parallel needs torch\.distributed, which this build"):
        tensor_parallel(MultiHeadAttention(8, 2), SimpleNamespace())  # type: ignore[arg-type]  # it is not reached
