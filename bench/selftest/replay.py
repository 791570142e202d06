"""``python -m bench replay``: error rates and cost of the stopping rule on recorded noise, as a table."""

import argparse
import random
from collections.abc import Mapping, Sequence
from math import log1p
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from ..judging.policy import Policy
from ..judging.statistics import Change, PairedTest
from ..plain.arguments import COUNT, PERCENT
from ..plain.errors import CannotDo
from ..plain.evidence import Measurement
from ..report.pairs import read
from .findings import share
from .simulation import (
    Outcome,
    Streams,
    centred,
    replay_case,
    replay_run,
    sign_correlation,
    streams_of,
    wald_pairs,
)


def add_command(commands: Any) -> None:
    """Declare ``replay`` among the commands of the command line."""
    parser = commands.add_parser("replay", help="judge the decision rule on recorded noise")
    parser.add_argument("recording", type=Path, help="what selftest --pairs or --gate-pairs wrote")
    COUNT.declare(parser, "--runs", "1000", "simulated runs")
    PERCENT.declare(parser, "--gate-threshold", f"{100 * Policy.threshold:g}%", "the slowdown that must not pass")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Read the recording and print the table.

    Raises:
        CannotDo: no recording, or one with a single pair of a case.

    """
    recorded = read(options.recording)
    for case_id, measurements in recorded.items():
        if any(len(measurement.pairs) < 2 for measurement in measurements):
            raise CannotDo(f"{options.recording} has a single pair of {case_id}: record for longer")
    main(recorded, runs=options.runs, threshold=options.gate_threshold)


def main(recorded: Mapping[str, Sequence[Measurement]], *, runs: int, threshold: float) -> None:
    """Print the table: the rule's false alarms, power, undecided cases, pairs and seconds."""
    cases = streams_of(recorded)
    streams = [stream for of_case in cases for stream in of_case]
    policy = Policy(threshold, Policy.default_budget_s(threshold))
    pairs = sum(len(stream.log_ratios) for stream in streams)
    print(f"cases {len(cases)}, streams {len(streams)}, pairs {pairs}; threshold {threshold:.3g}, runs {runs}")
    correlations = sorted(sign_correlation(stream) for stream in streams)
    quarter = len(correlations) // 4
    print(
        f"lag-1 correlation of signs: median {median(correlations):.3f}, "
        f"middle half {correlations[quarter]:.3f} to {correlations[-1 - quarter]:.3f}"
    )
    print(f"medians between pairs of twins: {_spread(cases)}")
    test, order = policy.test(len(cases)), random.Random(0)
    unchanged = [replay_run(cases, policy, test, order) for _ in range(runs)]
    slowed = [
        replay_case(centred(of_case), test, policy.budget_s, order, shift=log1p(threshold)).change
        for _ in range(max(1, runs // 10))
        for of_case in cases
    ]
    print()
    for name, found in _rows(cases, test, unchanged, slowed).items():
        print(f"{name:<26} {found}")


def _spread(cases: Sequence[Streams]) -> str:
    """Say by how much the median of a case differs from one pair of twins to another."""
    spreads = sorted(stdev(stream.median for stream in of_case) for of_case in cases if len(of_case) > 1)
    if not spreads:
        return "one pair of twins alone"
    furthest = max(abs(stream.median) for of_case in cases for stream in of_case)
    return f"sd {median(spreads):.2%} in the median case, {spreads[-1]:.2%} at most; furthest from 0 {furthest:.2%}"


def _rows(
    cases: Sequence[Streams],
    test: PairedTest,
    unchanged: Sequence[tuple[Outcome, ...]],
    slowed: Sequence[Change | None],
) -> dict[str, str]:
    runs, every = len(unchanged), [outcome for run in unchanged for outcome in run]
    alarmed = sum(any(outcome.change is Change.SLOWER for outcome in run) for run in unchanged)
    pairs = sum(outcome.pairs for outcome in every) / runs
    seconds = [sum(outcome.seconds for outcome in run) for run in unchanged]

    def of_wald(miss_level: float) -> str:
        log_ratios = ([d for stream in of_case for d in stream.log_ratios] for of_case in cases)
        levels = {"alarm_level": test.alarm_level, "miss_level": miss_level}
        expected = sum(wald_pairs(of_case, test.threshold, **levels) for of_case in log_ratios)
        return f"{expected / len(cases):.1f}, ratio {pairs / expected:.2f}"

    return {
        "runs with a false alarm": share(alarmed, runs),
        "true slowdowns caught": share(slowed.count(Change.SLOWER), len(slowed)),
        "slowed, called unchanged": share(slowed.count(Change.SAME), len(slowed)),
        "unchanged, left undecided": share(sum(outcome.change is None for outcome in every), len(every)),
        "longer than the recording": share(sum(outcome.repeats for outcome in every), len(every)),
        "pairs a case": f"{pairs / len(cases):.1f}",
        "of Wald's test": of_wald(test.miss_level),
        "of Wald's, misses shared": of_wald(test.alarm_level),
        "seconds a run": f"{fmean(seconds):.1f}, at most {max(seconds):.1f}",
    }
