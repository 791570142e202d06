"""pytest-benchmark's own gate, to stand beside this one: whether stored times fail each other."""

from collections.abc import Sequence
from typing import Any

from pytest_benchmark.utils import parse_compare_fail

CHECKS = ("min:10%", "median:10%")


def fails(check: str, before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Ask pytest-benchmark's own check whether any case of a run fails against another run."""
    rule = parse_compare_fail(check)
    compared = {benchmark["fullname"]: benchmark["stats"] for benchmark in before}
    return any(rule.fails(b["stats"], compared[b["fullname"]]) for b in after)
