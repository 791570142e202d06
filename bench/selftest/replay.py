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
    RunOutcome,
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
    slowed = [_slowed(of_case, policy, test, order) for _ in range(max(1, runs // 10)) for of_case in cases]
    print()
    for line in _lines(cases, test, unchanged, slowed):
        print(line)


def _spread(cases: Sequence[Streams]) -> str:
    """Say by how much the median of a case differs from one pair of twins to another."""
    spreads = sorted(stdev(stream.median for stream in of_case) for of_case in cases if len(of_case) > 1)
    if not spreads:
        return "one pair of twins alone"
    furthest = max(abs(stream.median) for of_case in cases for stream in of_case)
    return f"sd {median(spreads):.2%} in the median case, {spreads[-1]:.2%} at most; furthest from 0 {furthest:.2%}"


def _slowed(streams: Streams, policy: Policy, test: PairedTest, order: random.Random) -> Change | None:
    return replay_case(centred(streams), test, policy.budget_s, order, shift=log1p(policy.threshold))[0].change


def _lines(
    cases: Sequence[Streams], test: PairedTest, unchanged: list[RunOutcome], slowed: list[Change | None]
) -> list[str]:
    alarmed = sum(run.count(Change.SLOWER) > 0 for run in unchanged)
    judged = len(unchanged) * len(cases)
    mean_pairs = [fmean(run.outcomes[i].pairs for run in unchanged) for i in range(len(cases))]
    seconds = [run.seconds for run in unchanged]
    used_up = sum(outcome.repeats for run in unchanged for outcome in run.outcomes)

    def of_wald(miss_level: float) -> str:
        levels = {"alarm_level": test.alarm_level, "miss_level": miss_level}
        expected = [
            wald_pairs([d for stream in of_case for d in stream.log_ratios], test.threshold, **levels)
            for of_case in cases
        ]
        return f"{fmean(expected):.1f}, ratio {sum(mean_pairs) / sum(expected):.2f}"

    return [
        f"runs with a false alarm    {share(alarmed, len(unchanged))}",
        f"true slowdowns caught      {share(slowed.count(Change.SLOWER), len(slowed))}",
        f"slowed, called unchanged   {share(slowed.count(Change.SAME), len(slowed))}",
        f"unchanged, left undecided  {share(sum(run.count(None) for run in unchanged), judged)}",
        f"longer than the recording  {share(used_up, judged)}",
        f"pairs a case               {fmean(mean_pairs):.1f}",
        f"of Wald's test             {of_wald(test.miss_level)}",
        f"of Wald's, misses shared   {of_wald(test.alarm_level)}",
        f"seconds a run              {fmean(seconds):.1f}, at most {max(seconds):.1f}",
    ]
