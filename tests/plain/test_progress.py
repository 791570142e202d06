"""A line while something takes long."""

import sys
import time
from io import StringIO

import pytest

from bench.plain.progress import progress


def test_what_takes_long_says_so_now_and_then_and_what_is_quick_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stderr__", said := StringIO())
    with progress("the base is being imported", every_s=60):
        pass
    assert said.getvalue() == ""
    with progress("the base is being imported", every_s=0.01):
        while said.getvalue().count("so far") < 2:
            time.sleep(0.001)
    assert said.getvalue().startswith("gate: the base is being imported, 0 s so far\n")
