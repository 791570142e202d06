"""Ordinary benchmarks of functions on a GPU, in a repository that is not ours."""

from collections.abc import Mapping

import pytest

from .conftest import Make

PRODUCT = "def product(x):\n    return {expression}\n"
VARLEN = """
import torch
from torch.nn.attention.varlen import varlen_attn

LENGTHS = (512, 1024, 2048)

def attend(q, k, v):
    ends = torch.tensor([0, *LENGTHS], device="cuda", dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return {expression}
"""
WHOLE = "varlen_attn(q, k, v, ends, ends, max(LENGTHS), max(LENGTHS))"
OTHER = WHOLE.replace("q, k, v,", "q, k, v.flip(0),")
TESTS = """
import torch
from product import product
from varlen import LENGTHS, attend

def test_product(benchmark):
    benchmark(product, torch.randn(2048, 2048, device="cuda"))

def test_varlen(benchmark):
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(LENGTHS), 8, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    benchmark(attend, q, k, v)
"""


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("product", "varlen", "verdicts"),
    [
        ("x @ x", WHOLE, {"test_product": "UNCHANGED", "test_varlen": "UNCHANGED"}),
        ("(x @ x + x @ x) / 2", WHOLE, {"test_product": "REGRESSED", "test_varlen": "UNCHANGED"}),
        ("x @ x", f"{WHOLE} + {WHOLE} * 0", {"test_product": "UNCHANGED", "test_varlen": "REGRESSED"}),
        ("x @ x", OTHER, {"test_product": "UNCHANGED", "test_varlen": "DRIFTED"}),
    ],
    ids=["unchanged", "a product twice", "attention twice", "other values"],
)
def test_a_function_on_a_gpu_is_gated_where_its_benchmark_is(
    repository: Make, product: str, varlen: str, verdicts: Mapping[str, str]
) -> None:
    theirs = repository(
        {
            "product.py": PRODUCT.format(expression="x @ x"),
            "varlen.py": VARLEN.format(expression=WHOLE),
            "conftest.py": "",
            "benchmarks/test_gpu.py": TESTS,
        }
    )
    theirs.write({"product.py": PRODUCT.format(expression=product), "varlen.py": VARLEN.format(expression=varlen)})
    found = theirs.pytest("benchmarks")
    assert found.verdicts == verdicts, found.output
    assert found.exit_code == (0 if set(verdicts.values()) == {"UNCHANGED"} else 1)
