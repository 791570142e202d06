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

from . import instruction_set

REPOSITORY = Path(__file__).parents[2]
# What this process uses -> what a process can be told to use on this CPU, the widest vectors first.
SETS = {"AVX512": ("avx512", "avx2", "default"), "AVX2": ("avx2", "default")}
ASKED: dict[str, Any] = {"mask": None, "causal": True, "grouped": True, "dtype": torch.float32, "device": "cpu"}


@pytest.mark.skipif((lacks := KERNELS["compiled"].capabilities.lacks(**ASKED)) is not None, reason=str(lacks))
def test_kernels_that_compile_are_right_or_refuse_by_name_under_each_though_they_share_a_cache() -> None:
    first, *others = SETS.get(torch.backends.cpu.get_cpu_capability(), ("default",))
    every = "ATEN_CPU_CAPABILITY" in os.environ  # ``make test-instruction-sets``, which has time for all of it
    check(first, instruction_set.found(every=every))
    for told in others if every else others[:1]:
        done = subprocess.run(
            [sys.executable, instruction_set.__file__, *(["every"] if every else [])],
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "ATEN_CPU_CAPABILITY": told},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        check(told, json.loads(done.stdout))


def check(told: str, found: dict[str, Any]) -> None:
    """Hold what a process under an instruction set has found to what it should."""
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
