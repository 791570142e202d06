"""The benchmarks: one test, which runs once for each case of the matrix in ``suite/matrix.py``."""

from collections.abc import Callable

from .suite.cases import Case


def test_attention(attention_case: Case, run_case: Callable[[Case], None]) -> None:
    run_case(attention_case)
