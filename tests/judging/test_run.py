"""From verdicts to exit code and closing line."""

from dataclasses import replace

import pytest

from bench.judging.advice import advice
from bench.judging.policy import Policy
from bench.judging.run import Run
from bench.judging.verdict import FAILING, CaseResult, Verdict
from bench.plain.evidence import Evidence, Load

POLICY = Policy()


def run(*verdicts: Verdict, policy: Policy = POLICY) -> Run:
    cases = tuple(CaseResult(Evidence(f"case-{i}"), v, (f"because {i}",), ratio=1.0) for i, v in enumerate(verdicts))
    return Run({"origin": "b"}, {"origin": "h"}, {}, policy, cases)


LIMITED = Policy(undecided=0.05)


@pytest.mark.parametrize(
    ("verdicts", "policy", "exit_code"),
    [
        *(([Verdict.UNCHANGED, verdict, Verdict.FASTER], POLICY, int(verdict in FAILING)) for verdict in Verdict),
        ([Verdict.INCONCLUSIVE], POLICY, 0),
        ([Verdict.INCONCLUSIVE], Policy(undecided=0.0), 4),
        *(
            ([*[Verdict.UNCHANGED] * decided, Verdict.NEW, Verdict.SKIPPED, Verdict.INCONCLUSIVE], LIMITED, exit_code)
            for decided, exit_code in ((1, 4), (18, 4), (19, 0), (200, 0))
        ),
        ([Verdict.INCONCLUSIVE, Verdict.REGRESSED], LIMITED, 1),
    ],
)
def test_a_run_fails_by_one_case_and_is_no_comparison_if_too_much_is_undecided(
    verdicts: list[Verdict], policy: Policy, exit_code: int
) -> None:
    assert run(*verdicts, policy=policy).exit_code == exit_code


def test_as_many_as_may_be_undecided_are_not_too_many() -> None:
    for undecided in range(100):
        policy = Policy(undecided=undecided / 100)
        exact = run(*[Verdict.INCONCLUSIVE] * undecided, *[Verdict.UNCHANGED] * (100 - undecided), policy=policy)
        more = replace(exact, cases=exact.cases[:-1])
        assert (exact.exit_code, more.exit_code) == (0, 4 if undecided else 0), undecided


def test_a_run_that_left_too_much_undecided_says_so_and_what_to_do() -> None:
    busy = replace(run(Verdict.INCONCLUSIVE, Verdict.UNCHANGED, policy=LIMITED), load=Load(2, 1.9, 0.0, None))
    said = "1 of 2 timed cases is undecided, and at most 5% may be"
    why = "other processes kept 1.9 of 2 cores busy, the hypervisor took 0.0; give --gate-budget="
    assert (busy.word, busy.sentence) == ("ERROR", said)
    assert busy.closing_line.startswith(f"gate: ERROR, {said}: {why}")
    assert advice(busy)[0].startswith(f"{said}: {why}")


@pytest.mark.parametrize("verdicts", [(), (Verdict.SKIPPED,), (Verdict.NEW, Verdict.SKIPPED)])
def test_a_gate_that_compared_nothing_gives_exit_code_4(verdicts: tuple[Verdict, ...]) -> None:
    nothing = run(*verdicts)
    assert nothing.exit_code == 4
    assert nothing.closing_line == "gate: ERROR, nothing was compared: no selected case is in both base and head"


def test_a_pass_does_not_claim_the_speed_of_cases_that_are_not_timed() -> None:
    checked = CaseResult(Evidence("c", timed=False), Verdict.UNCHANGED)
    timed = CaseResult(Evidence("t"), Verdict.UNCHANGED, ratio=1.0)
    both, alone = (replace(run(), cases=cases) for cases in ((checked, timed, checked), (checked,)))
    assert both.closing_line == "gate: PASS, no slowdown of 5% in 1 case and no drift in 3 cases (3 UNCHANGED)"
    assert alone.closing_line == "gate: PASS, no drift in 1 case; none is timed (1 UNCHANGED)"
    assert alone.exit_code == 0
    undecided = run(Verdict.INCONCLUSIVE, policy=LIMITED)
    assert replace(undecided, cases=(*undecided.cases, *[checked] * 50)).exit_code == 4  # of 1 that is timed


def test_the_closing_line_says_pass_or_fail_and_why() -> None:
    passed = run(Verdict.UNCHANGED, Verdict.SKIPPED, Verdict.UNCHANGED)
    assert passed.closing_line == "gate: PASS, no slowdown of 5% and no drift in 2 cases (2 UNCHANGED, 1 SKIPPED)"
    failed = run(Verdict.UNCHANGED, Verdict.REGRESSED, Verdict.ERROR)
    assert failed.closing_line == ("gate: FAIL (1 ERROR, 1 REGRESSED, 1 UNCHANGED); worst: case-2 ERROR: because 2")
    long = CaseResult(Evidence("c"), Verdict.ERROR, ("it raised\nwith a trace", "and changed"))
    assert replace(failed, cases=(long,)).closing_line == "gate: FAIL (1 ERROR); worst: c ERROR: it raised…"
    assert replace(failed, cases=(replace(long, reasons=()),)).closing_line == "gate: FAIL (1 ERROR); worst: c ERROR"


def test_a_run_of_which_most_was_skipped_is_no_plain_pass() -> None:
    half = run(Verdict.UNCHANGED, Verdict.SKIPPED)
    assert half.closing_line.startswith("gate: PASS, no slowdown")
    assert run(*[Verdict.UNCHANGED] * 4, *[Verdict.SKIPPED] * 3).word == "PASS"
    most = run(Verdict.UNCHANGED, Verdict.SKIPPED, Verdict.SKIPPED)
    assert most.exit_code == 0
    said = "most was skipped (2 of 3 cases): no slowdown of 5% and no drift in 1 case"
    assert most.closing_line == f"gate: PASS IN PART, {said} (1 UNCHANGED, 2 SKIPPED)"
    assert run(Verdict.DRIFTED, Verdict.SKIPPED, Verdict.SKIPPED).closing_line.startswith("gate: FAIL")


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE], "but 2 of 2 timed cases undecided"),
        ([Verdict.INCONCLUSIVE, Verdict.UNCHANGED, Verdict.NEW, Verdict.SKIPPED], "but 1 of 2 timed cases undecided"),
        ([Verdict.WAIVED, Verdict.UNCHANGED], "no slowdown of 5% that is not waived and no drift in 2 cases"),
        ([Verdict.UNCHANGED, Verdict.FASTER, Verdict.NEW], "no slowdown of 5% and no drift in 2 cases"),
    ],
)
def test_a_pass_claims_no_more_than_was_decided(verdicts: list[Verdict], said: str) -> None:
    passed = run(*verdicts)
    assert passed.exit_code == 0
    assert passed.closing_line.startswith(f"gate: PASS, {said} (")


def test_the_worst_case_comes_first_and_the_slowest_among_equals() -> None:
    cases = (
        CaseResult(Evidence("a"), Verdict.UNCHANGED, ratio=1.0),
        CaseResult(Evidence("b"), Verdict.REGRESSED, ratio=1.1),
        CaseResult(Evidence("c"), Verdict.REGRESSED, ratio=1.3),
        CaseResult(Evidence("d"), Verdict.DRIFTED),
        CaseResult(Evidence("e"), Verdict.ERROR),
        CaseResult(Evidence("untimed"), Verdict.REGRESSED),
        CaseResult(Evidence("faster"), Verdict.REGRESSED, ratio=0.5),
    )
    assert [c.id for c in replace(run(), cases=cases).worst_first] == ["e", "d", "c", "b", "faster", "untimed", "a"]
