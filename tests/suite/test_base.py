"""The errors, fingerprints and ids that were stored of a base, and where they still hold."""

import pytest

from bench.plain.execution import Fingerprint, Pass
from bench.sources.baseline import Baseline
from bench.sources.source import Source
from bench.suite.base import Base

SOURCE = Source("baseline x", b"")
CASE = "sdpa-b1h4t64d32-full-fp32-cpu-fwd"
PRINT = Fingerprint(Pass({"aten.bmm": 2}, 1, 1))
STORED = Baseline(SOURCE, {CASE: {"out": 1e-7}}, {"cpu": "a cpu", "torch": "2"}, fingerprints={CASE: PRINT})


@pytest.mark.parametrize(
    ("here", "errors", "fingerprints"),
    [
        ({"cpu": "a cpu", "torch": "2"}, {CASE: {"out": 1e-7}}, {CASE: PRINT}),
        ({"cpu": "another", "torch": "2"}, {}, {CASE: PRINT}),
        ({"cpu": "a cpu", "torch": "1"}, {}, {}),
    ],
)
def test_a_base_has_what_was_stored_of_it_that_holds_here_and_every_id(
    here: dict[str, str], errors: dict[str, dict[str, float]], fingerprints: dict[str, Fingerprint]
) -> None:
    base = Base.of(SOURCE, STORED, here | {"instructions": "AVX2"})
    assert base.stored_errors == errors
    assert base.stored_fingerprints == fingerprints
    assert base.stored_ids == (CASE,)


def test_nothing_is_stored_of_a_base_that_is_no_baseline() -> None:
    base = Base.of(SOURCE, None, {"cpu": "a cpu", "torch": "2"})
    assert (base.stored_errors, base.stored_fingerprints, base.stored_ids) == ({}, {}, ())
