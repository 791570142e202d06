"""What tests of several files need: the self-test's wrong kernels as functions."""

from collections.abc import Callable
from textwrap import indent
from typing import Any

import pytest
import torch

import attention
from bench.selftest.faults import Fault


@pytest.fixture
def planted() -> Callable[[Fault], Callable[..., Any]]:
    """Make the head's edit in a fault of the self-test a function of its own, with what it keeps between calls."""

    def function(fault: Fault) -> Callable[..., Any]:
        names: dict[str, Any] = {"torch": torch, "masked": attention.KERNELS["masked"]}
        text = f"{fault.head_before}\ndef probe(q, k, v, **options):\n{indent(fault.head_call, '    ')}"
        exec(text, names)  # noqa: S102  # our own text
        made: Callable[..., Any] = names["probe"]
        return made

    return function
