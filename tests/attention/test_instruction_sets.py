"""Kernels that compile, under each instruction set that PyTorch can be told to use on this CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from attention import KERNELS, compiling

REPOSITORY = Path(__file__).parents[2]
# What this process uses -> what a process can be told to use on this CPU, the widest vectors first.
SETS = {"AVX512": ("avx512", "avx2", "default"), "AVX2": ("avx2", "default")}
ASKED: dict[str, Any] = {"mask": None, "causal": True, "grouped": True, "dtype": torch.float32, "device": "cpu"}


@pytest.mark.skipif((lacks := KERNELS["compiled"].capabilities.lacks(**ASKED)) is not None, reason=str(lacks))
def test_kernels_that_compile_are_right_or_refuse_by_name_under_each_though_they_share_a_cache(tmp_path: Path) -> None:
    sets = SETS.get(torch.backends.cpu.get_cpu_capability(), ("default",))
    variables = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    if "ATEN_CPU_CAPABILITY" in os.environ:  # ``make test-instruction-sets``, which has time for all of it
        variables["EVERY_REQUEST"] = "1"
    else:  # two share the cache
        sets = sets[:2]
    for told in sets:
        variables["ATEN_CPU_CAPABILITY"] = told
        script = REPOSITORY / "tests" / "attention" / "instruction_set.py"
        done = subprocess.run(
            [sys.executable, script], env=os.environ | variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        uses = "DEFAULT" if told == "default" else told.upper()
        refusal = f"device cpu here: PyTorch's FlexAttention needs AVX2, and uses {uses} on this CPU"
        refused = [f"kernel 'flex' does not support {refusal}"] if told == "default" else []
        assert found["uses"] == uses
        assert found["complaints"] == {
            request: refused if request.startswith("flex") else [] for request in found["complaints"]
        }


@pytest.mark.parametrize(("capability", "bits"), [("DEFAULT", None), ("AVX2", 256), ("AVX512", 512), ("SVE256", None)])
def test_the_width_of_vectors_is_known_of_x86_cpus_alone(
    capability: str, bits: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert compiling.vector_bits() == bits
