"""Whole runs against a stored baseline whose code cannot be timed: what it executed when it was stored still gates."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.sources import baseline, source

from .conftest import ONE, Bench


def stored_with(pytester: pytest.Pytester, init: str) -> Path:
    """Store a baseline, and put another package than the one that was measured into it."""
    (stored,) = pytester.path.rglob("0001_first.json")
    package = pytester.mkdir("attention")
    (package / "__init__.py").write_text(init)
    document = json.loads(stored.read_text())
    document["gate"] = baseline.our_part(source.from_directory(pytester.path), document["gate"]["environment"])
    stored.write_text(json.dumps(document))
    return stored


THREE_DIMENSIONAL = """
from .registry import KERNELS, Kernel

def three_dimensional(*tensors, **rest):
    q, k, v = (t.flatten(0, 1) for t in tensors)
    return F.scaled_dot_product_attention(q, k, v)[None]

KERNELS["sdpa"] = Kernel("sdpa", three_dimensional, sdpa.capabilities)
"""


def test_a_stored_base_that_does_not_import_fails_and_its_fingerprints_gate_all_the_same(
    bench: Bench, pytester: pytest.Pytester, edit: Callable[[str, str], Path]
) -> None:
    assert bench("--benchmark-save=first").ret == 0
    stored_with(pytester, "raise ImportError('another torch')")
    same = bench("--benchmark-compare")
    assert same.ret == pytest.ExitCode.TESTS_FAILED
    assert "(1 ERROR); worst" in same.outlines[-1]
    assert "does not import (ImportError: another torch)" in same.outlines[-1]
    assert not any("backend" in line for line in same.outlines)
    edit("sdpa", THREE_DIMENSIONAL)
    changed = bench("--benchmark-compare")
    assert changed.ret == pytest.ExitCode.TESTS_FAILED
    assert any("backend flash -> math because q, k, v have 3, 3, 3 dimensions" in line for line in changed.outlines)


def test_a_stored_base_that_does_not_import_and_whose_fingerprints_do_not_hold_here_is_no_pass(
    bench: Bench, pytester: pytest.Pytester
) -> None:
    assert bench("--benchmark-save=first").ret == 0
    path = stored_with(pytester, "raise ImportError('another torch')")
    path.write_text(path.read_text().replace(torch.__version__, "1.0"))
    result = bench("--benchmark-compare")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert any("does not import (ImportError: another torch)" in line for line in (*result.errlines, *result.outlines))


def test_a_case_that_only_the_stored_baseline_knows_of_a_kernel_is_missing(
    bench: Bench, pytester: pytest.Pytester
) -> None:
    assert bench("--benchmark-save=first").ret == 0
    (stored,) = pytester.path.rglob("0001_first.json")
    lost = ONE.replace("t64", "t63")
    stored.write_text(stored.read_text().replace(ONE, lost))
    result = bench("--benchmark-compare")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert any(line.startswith(f"{lost} ") and "MISSING" in line for line in result.outlines)


def test_an_outside_kernel_is_held_to_the_fingerprint_that_was_stored_of_it(
    bench: Bench, pytester: pytest.Pytester
) -> None:
    fused = "from torch.nn.functional import scaled_dot_product_attention as attend\n\n"
    fused += "def mine(q, k, v, *, mask, causal, scale):\n    return attend(q, k, v)\n"
    path = pytester.makepyfile(outside=fused)
    pytester.syspathinsert()
    case = f"{ONE.replace('sdpa', 'mine')}] or {ONE}]"
    assert bench("--kernel=outside:mine", "--benchmark-save=first", case=case).ret == 0
    held = bench("--kernel=outside:mine", "--benchmark-compare", case=case)
    assert held.ret == 0
    assert "(1 UNCHANGED)" in held.outlines[-1]
    sys.modules.pop("outside", None)
    path.write_text(fused.replace("attend(q, k, v)", "attend(q, k.mT.contiguous().mT, v)"))
    changed = bench("--kernel=outside:mine", "--benchmark-compare", case=case)
    assert changed.ret == pytest.ExitCode.TESTS_FAILED
    assert any("backend flash -> math because the last strides" in line for line in changed.outlines)
    sys.modules.pop("outside", None)
