"""The threads of libraries while a call is timed."""

import sys
from types import SimpleNamespace

import pytest
import torch

from bench.sessions import threads


class Library(SimpleNamespace):
    """Has threads, as torch and Numba have."""

    number: int

    def get_num_threads(self) -> int:
        return self.number

    def set_num_threads(self, number: int) -> None:
        self.number = number


NUMBA = "numba.np.ufunc.parallel"


def test_more_threads_than_cores_are_limited_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before, numba = torch.get_num_threads(), Library(number=8, _is_initialized=True)
    monkeypatch.setitem(sys.modules, NUMBA, numba)
    try:
        torch.set_num_threads(5)
        undo = threads.limit(3)
        assert (torch.get_num_threads(), numba.number) == (3, 3)
        for give_back in undo:
            give_back()
        assert (torch.get_num_threads(), numba.number) == (5, 8)
        assert threads.limit(8) == []  # fewer stay as they are
    finally:
        torch.set_num_threads(before)


def test_numba_that_has_started_no_threads_is_not_asked_for_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = Library(number=8, _is_initialized=False)
    monkeypatch.setitem(sys.modules, NUMBA, numba)
    assert threads.limit(max(3, torch.get_num_threads())) == []
