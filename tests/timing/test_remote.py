"""Where a process of its own looks for packages: where its interpreter does."""

import os
import sys
from pathlib import Path

import pytest

from bench.timing.remote import _environment

REPOSITORY = str(Path(__file__).parents[2])


def test_this_interpreter_finds_in_its_own_process_what_it_finds_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    assert _environment(sys.executable)["PYTHONPATH"] == f"{REPOSITORY}{os.pathsep}/theirs"
    monkeypatch.delenv("PYTHONPATH")
    assert _environment(sys.executable)["PYTHONPATH"] == REPOSITORY


def test_another_interpreter_looks_for_packages_in_places_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    monkeypatch.setenv("VIRTUAL_ENV", "/here")
    environment = _environment("/other/python")
    assert environment["PYTHONPATH"] == REPOSITORY
    assert "VIRTUAL_ENV" not in environment
