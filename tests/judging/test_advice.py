"""Warnings: when they appear, and that each says the effect and the cure."""

from dataclasses import replace

import pytest

from bench.judging.advice import advice
from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.verdict import CaseResult, Verdict
from bench.plain.evidence import Evidence, Load

QUIET = Load(cores=2, other_cores=0.1, stolen_cores=0.0, clock_share=None)


def run(load: Load, *cases: CaseResult) -> Run:
    return Run({}, {}, {}, Policy(), cases or (DECIDED,), load)


DECIDED, UNTIMED = CaseResult(Evidence("a"), Verdict.UNCHANGED, mde=0.061), CaseResult(Evidence("a"), Verdict.NEW)


@pytest.mark.parametrize("load", [QUIET, Load(2, 0.1, 0.0, 0.98), Load(2, 0.5, 0.1, 0.75)])  # the last is the limit
def test_a_quiet_machine_and_a_decided_run_need_no_warning(load: Load) -> None:
    assert advice(run(load)) == ()


@pytest.mark.parametrize(
    ("load", "case", "said"),
    [
        (
            Load(2, 1.3, 0.0, None),
            DECIDED,
            "other processes kept 1.3 of 2 cores busy, and the median case could see a slowdown of 6.1%: "
            "stop them, or raise --gate-budget",
        ),
        (
            Load(2, 0.0, 0.4, None),
            DECIDED,
            "the hypervisor took 0.4 of 2 cores away, and the median case could see a slowdown of 6.1%: "
            "use another runner, or raise --gate-budget",
        ),
        (
            Load(2, 0.0, 0.0, 0.5),
            UNTIMED,
            "the clock ran at 50% of its maximum, and no case took enough pairs to see a slowdown: "
            "let the machine cool, or plug it in",
        ),
    ],
)
def test_what_disturbs_is_named_with_its_effect_and_what_to_do(load: Load, case: CaseResult, said: str) -> None:
    assert advice(run(load, case)) == (said,)


def test_undecided_cases_are_counted_and_a_budget_is_proposed() -> None:
    cases = (
        CaseResult(Evidence("a"), Verdict.INCONCLUSIVE, mde=0.10),
        CaseResult(Evidence("b"), Verdict.UNCHANGED, ratio=1.0, mde=0.04),
    )
    (warning,) = advice(run(QUIET, *cases))
    assert warning == (
        "1 of 2 timed cases is undecided: give --gate-budget=115, run on a quieter machine, split the cases "
        "into shards, or raise --gate-threshold"
    )


@pytest.mark.parametrize(
    ("budget_s", "mde", "said"),
    [
        (0.02, None, "give --gate-budget=1, run on"),
        (30.0, 0.01, "give --gate-budget=60, run on"),  # never less than twice
        (75.0, None, "give --gate-budget=300, run on"),
        (75.01, None, "run on"),
        (30.0, 0.9, "run on a quieter machine, split the cases into shards, or raise --gate-threshold"),
    ],
)
def test_the_proposed_budget_is_neither_zero_nor_longer_than_five_minutes(
    budget_s: float, mde: float | None, said: str
) -> None:
    undecided = run(QUIET, CaseResult(Evidence("a"), Verdict.INCONCLUSIVE, mde=mde))
    (warning,) = advice(replace(undecided, policy=Policy(budget_s=budget_s)))
    assert warning.startswith(f"1 of 1 timed cases is undecided: {said}")


@pytest.mark.parametrize(
    ("call_s", "said"),
    [
        (0.1, "give --gate-budget=120, run on"),
        (5.0, "give --gate-budget=260, run on"),
        (10.0, "give calls that take seconds less work, run on"),
    ],
)
def test_where_calls_take_seconds_the_proposed_budget_is_enough_for_them(call_s: float, said: str) -> None:
    case = CaseResult(Evidence("a"), Verdict.INCONCLUSIVE, base_ns=call_s * 1e9, head_ns=call_s * 1e9)
    (warning,) = advice(run(QUIET, case))
    assert warning.startswith(f"1 of 1 timed cases is undecided: {said}")


def test_more_undecided_cases_than_may_be_are_explained_by_what_else_the_machine_did() -> None:
    busy = replace(
        run(Load(2, 0.4, 0.05, 0.8), CaseResult(Evidence("a"), Verdict.INCONCLUSIVE)), policy=Policy(undecided=0)
    )
    (warning,) = advice(busy)
    assert warning == (
        "1 of 1 timed cases is undecided, and at most 0% may be: other processes kept 0.4 of 2 cores busy, the "
        "hypervisor took 0.1, the clock ran at 80% of its maximum; give --gate-budget=120, run on a quieter machine, "
        "split the cases into shards, or raise --gate-threshold"
    )
    (unknown,) = advice(replace(busy, load=None))
    assert unknown.startswith("1 of 1 timed cases is undecided, and at most 0% may be: give --gate-budget=120, ")


def test_stored_cases_of_a_device_that_is_not_here_are_counted_and_not_passed_over() -> None:
    absent = ("sdpa-b1h8t512d64-full-fp16-cuda-fwd", "sdpa-b1h8t512d64-full-bf16-cuda-fwd")
    (warning,) = advice(replace(run(QUIET), absent=absent))
    assert warning == (
        "2 cases of the baseline, such as sdpa-b1h8t512d64-full-fp16-cuda-fwd, are for a device that is not here, and "
        "nothing is known of them: run the gate on such a machine too"
    )
