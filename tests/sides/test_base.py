"""The base: which cases it has, and what is left of it where its code does not load."""

from pathlib import Path

import pytest

import attention
from bench.plain.errors import CannotDo
from bench.plain.execution import Fingerprint, Pass
from bench.sides.base import Base, loaded
from bench.sides.baseline import Baseline
from bench.sides.side import Side
from bench.sides.source import Source, from_directory

REPOSITORY = Path(attention.__file__ or "").parents[1]
HERE = {"cpu": "a cpu", "torch": "2"}
WHOLE = from_directory(Path(attention.__file__ or "").parent)
BROKEN = Source("a broken archive", b"")
CASE = "sdpa-b1h4t64d32-full-fp32-cpu-fwd"
PRINT = Fingerprint(Pass({"aten.bmm": 2}, 1, 1))


def stored(source: Source, torch: str = "2") -> Baseline:
    return Baseline(source, {CASE: {"out": 1e-7}}, {"cpu": "a cpu", "torch": torch}, fingerprints={CASE: PRINT})


def test_a_base_is_its_code_and_what_was_stored_of_it_that_holds_here() -> None:
    with loaded(WHOLE, stored(WHOLE), HERE, REPOSITORY) as base:
        assert base.side is not None
        assert base.error is None
        assert base.stored_errors == {CASE: {"out": 1e-7}}
        assert base.stored_fingerprints == {CASE: PRINT}
    with loaded(WHOLE, stored(WHOLE, torch="1"), HERE, REPOSITORY) as base:
        assert (base.stored_errors, base.stored_fingerprints) == ({}, {})
        assert base.stored_ids == (CASE,)


def test_stored_fingerprints_stand_in_for_code_that_does_not_load_and_nothing_else_does() -> None:
    with loaded(BROKEN, stored(BROKEN), HERE, REPOSITORY) as base:
        assert base.side is None
        assert base.error is not None
        assert "a broken archive is not a zip archive" in base.error
    for baseline in (None, stored(BROKEN, torch="1")):
        with pytest.raises(CannotDo, match="is not a zip archive"), loaded(BROKEN, baseline, HERE, REPOSITORY):
            pass


def test_its_cases_are_those_its_code_supports_and_those_stored_of_a_subject_that_it_has() -> None:
    side = Side("base", {"sdpa": attention.KERNELS["sdpa"]}, {})
    of_sdpa, of_a_kernel_from_outside = CASE.replace("t64", "t63"), CASE.replace("sdpa", "outside")
    base = Base(side, WHOLE, stored_ids=(of_sdpa, of_a_kernel_from_outside))
    ids = base.ids("smoke", ("cpu",))
    assert {CASE, of_sdpa} <= ids
    assert {id_.partition("-")[0] for id_ in ids} == {"sdpa"}
    assert Base(None, WHOLE, stored_ids=base.stored_ids).ids("smoke", ("cpu",)) == set(base.stored_ids)
