"""What a page shows of one case when it is opened."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from bench.judging.verdict import CaseResult, HostTime, Verdict
from bench.plain.evidence import Evidence, TensorError
from bench.plain.execution import Calls, Ceiling, Cost, Fingerprint, Pass
from bench.report.details import Facts, details, flatten, write
from bench.report.text import duration

FLASH = Fingerprint(Pass({"aten._flash": 1, "aten.view": 4}, 2**20, 2**20), backend="flash")
MATH = Fingerprint(Pass({"aten.bmm": 2, "aten.view": 4}, 2**20, 2**20))


def shown(case: CaseResult) -> dict[str, Facts]:
    return {table.title: table for table in details(case)}


def rows(table: Facts) -> dict[str, tuple[tuple[str, ...], bool]]:
    return {row.name: (row.values, row.changed) for row in table.rows}


def test_both_fingerprints_stand_side_by_side_and_what_differs_stands_out() -> None:
    tables = shown(CaseResult(Evidence("c", base_fingerprint=FLASH, head_fingerprint=MATH), Verdict.CHANGED))
    same = (("1.00 MiB", "1.00 MiB"), False)
    assert rows(tables["What ran"]) == {
        "forward peak": same,
        "forward allocated": same,
        "backend": (("flash", "none"), True),
    }
    assert rows(tables["What ran: forward ops"]) == {
        "aten._flash": (("1", "-"), True),
        "aten.view": (("4", "4"), False),
        "aten.bmm": (("-", "2"), True),
    }


def test_a_fingerprint_without_a_base_is_shown_and_nothing_of_it_counts_as_changed() -> None:
    tables = shown(CaseResult(Evidence("c", head_fingerprint=MATH), Verdict.NEW))
    assert rows(tables["What ran"])["forward peak"] == (("-", "1.00 MiB"), False)
    assert not any(row.changed for table in tables.values() for row in table.rows)


def test_what_differs_by_chance_does_not_stand_out() -> None:
    slow, fast = (replace(MATH, calls=Calls(first_call_s=seconds)) for seconds in (0.5, 0.1))
    tables = shown(CaseResult(Evidence("c", base_fingerprint=slow, head_fingerprint=fast), Verdict.UNCHANGED))
    assert rows(tables["What ran"])["calls first call s"] == (("0.5", "0.1"), False)


def test_what_neither_side_has_is_left_out() -> None:
    tables = shown(CaseResult(Evidence("c", base_fingerprint=MATH, head_fingerprint=MATH), Verdict.UNCHANGED))
    assert set(rows(tables["What ran"])) == {"forward peak", "forward allocated"}


def test_each_tensor_has_its_errors_beside_their_budgets() -> None:
    error = TensorError("out", 1e-7, 2e-7, 4e-7, 1e-8, 4e-8, base=None, bit_equal=None)
    over = replace(error, name="q.grad", head=8e-7, complaints=("q.grad is over",), base=1e-7, bit_equal=False)
    (table,) = details(CaseResult(Evidence("c", errors=(error, over)), Verdict.DRIFTED))
    assert rows(table) == {
        "out": (("1e-07", "4e-07", "25%", "-", "2e-07", "1e-08", "4e-08", "-"), False),
        "q.grad": (("8e-07", "4e-07", "200%", "1e-07", "2e-07", "1e-08", "4e-08", "no"), True),
    }
    assert len(table.columns) == 1 + len(table.rows[0].values)


def test_the_host_s_time_of_a_call_stands_beside_the_device_s() -> None:
    case = CaseResult(Evidence("c"), Verdict.UNCHANGED, base_ns=9e6, head_ns=9e6, host=HostTime(2e4, 3e4))
    assert rows(shown(case)["Time beside the device's"]) == {"host, a call": (("20 us", "30 us"), False)}
    judged = replace(case, host=HostTime(2e4, 3e4, Verdict.REGRESSED, 1.4, (1.3, None), 50))
    (row,) = shown(judged)["Time beside the device's"].rows
    assert row.values == ("20 us", "30 us", "REGRESSED", "1.400", "at least 1.300", "50")


def test_the_speed_stands_beside_what_the_machine_can_do() -> None:
    case = CaseResult(Evidence("c", work=Cost(2000, 4000, "fp32", "cpu")), Verdict.UNCHANGED, head_ns=1000.0)
    (unknown,), (known,) = details(case), details(case, (Ceiling("fp32", "cpu", 1, 8e9, 5e9),))
    assert rows(unknown) == {"GFLOP/s": (("2",), False), "GB/s": (("4",), False)}
    assert rows(known)["roofline"] == (("80% of what its bytes allow",), False)


def test_a_case_that_did_not_run_has_no_details() -> None:
    assert details(CaseResult(Evidence("c"), Verdict.SKIPPED, ("cannot",))) == ()


@dataclass(frozen=True)
class Inner:
    ops: Mapping[str, int]
    peak_bytes: int


@dataclass(frozen=True)
class Outer:
    forward: Inner
    backward: Inner | None
    calls: tuple[Inner, ...]
    breaks: tuple[str, ...]


def test_a_fingerprint_may_be_nested() -> None:
    inner = Inner({"aten.bmm": 2}, 5)
    assert flatten(Outer(inner, None, (inner, replace(inner, peak_bytes=6)), ("a", "b"))) == {
        "forward ops": {"aten.bmm": 2},
        "forward peak_bytes": 5,
        "backward": None,
        "calls 1 ops": {"aten.bmm": 2},
        "calls 1 peak_bytes": 5,
        "calls 2 ops": {"aten.bmm": 2},
        "calls 2 peak_bytes": 6,
        "breaks": ("a", "b"),
    }


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("peak_bytes", 2**20, "1.00 MiB"),
        ("graphs", 3, "3"),
        ("compiled", True, "yes"),
        ("backend", None, "none"),
        ("breaks", (), "none"),
        ("clock_share", 0.98765, "0.9877"),
        ("kernels", ("a", "b"), "a, b"),
    ],
)
def test_any_plain_value_can_be_written(name: str, value: object, text: str) -> None:
    assert write(name, value) == text


@pytest.mark.parametrize(("ns", "text"), [(999.4e3, "999 us"), (999.9996e3, "1 ms"), (1e6, "1 ms"), (12.3, "12.3 ns")])
def test_a_time_keeps_three_digits_and_its_largest_unit(ns: float, text: str) -> None:
    assert duration(ns) == text
