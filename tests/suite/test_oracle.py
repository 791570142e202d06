"""Oracle and yardstick, computed in blocks, are what they are at once."""

import pytest
import torch

import attention
from bench.suite import oracle
from bench.suite.cases import Case
from bench.suite.matrix import matrix
from bench.suite.side import Side
from bench.suite.workload import BLOCK_SCORES, build, bytes_needed, parameter_sizes

HEAD = Side.of("head", attention)
SUBJECTS = ("masked", "sdpa", "mha", "block")
CASES = [
    case
    for case, reason in matrix(HEAD.kernels, HEAD.modules, "smoke", ("cpu",)).items()
    if reason is None and case.subject in SUBJECTS and case.dtype == "fp32" and case.shape.batch > 1
]


def test_cases_of_every_kind_are_asked() -> None:
    assert {case.mask_shape is not None and len(case.mask_shape) for case in CASES} >= {False, 1, 2, 4}
    assert any(case.shape.sinks for case in CASES)
    assert any(case.hiding.learned for case in CASES)
    assert {case.backward for case in CASES} == {True, False}


def test_blocks_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    for case in CASES:
        workload = build(case, parameter_sizes(case, HEAD))
        found = []
        with torch.set_grad_enabled(case.backward):
            for scores in (BLOCK_SCORES, 1):
                monkeypatch.setattr(oracle, "BLOCK_SCORES", scores)
                found.append((oracle.oracle(workload), oracle.yardstick(workload)))
        for whole, parts in zip(*found, strict=True):
            for name, tensor in whole.items():
                rtol, atol = (
                    (1e-3, 1e-3) if workload.looser > 1 else (None, None)
                )  # large scores magnify their rounding
                torch.testing.assert_close(
                    parts[name], tensor, rtol=rtol, atol=atol, equal_nan=True, msg=f"{case.id}: {name}"
                )


@pytest.mark.parametrize(
    ("shape", "parts"),
    [("b2h4kv2t64d32", 1), ("b16h16t1024d128", 16), ("b1h16t16384d128", 16), ("b2h32kv8t4k65536d128", 1)],
)
def test_a_block_has_as_many_heads_as_memory_allows_and_a_head_of_the_keys_at_least(shape: str, parts: int) -> None:
    case = Case.parse(f"sdpa-{shape}-causal-bf16-cuda-fwd", ())
    cut = oracle.blocks(case)
    assert len(cut) == parts
    heads = sum(len(range(case.shape.heads)[part.heads]) * len(range(case.shape.batch)[part.items]) for part in cut)
    assert heads == case.shape.heads * case.shape.batch


def test_a_case_that_fills_a_gpu_needs_memory_for_one_head_of_scores_and_not_for_all() -> None:
    few, formula = (Case.parse(f"{name}-b1h16t16384d128-causal-bf16-cuda-fwdbwd", ()) for name in ("sdpa", "masked"))
    one = 16384**2
    assert 8 * one * (8 + 2) < bytes_needed(few) < 8 * one * (8 + 2) * 1.2
    assert bytes_needed(formula) > 16 * 8 * one * (8 + 2)
