"""Replays recorded noise through the stopping rule: error rates, power and cost in seconds. Pure.

A recording is of unchanged code, so the sign of each log-ratio is that of a fair coin: the order of its pair. It has a
stream of each case from each of several pairs of twins.
"""

import random
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from math import inf, log
from statistics import fmean
from statistics import median as median_of

from ..judging.judge import vote
from ..judging.policy import Policy
from ..judging.statistics import Change, PairedTest, median
from ..plain.evidence import Measurement
from ..timing.budget import SharedBudget


@dataclass(frozen=True)
class Stream:
    """The log-ratios of one case's pairs in one pair of twins, in order, and the seconds that a pair takes."""

    log_ratios: tuple[float, ...]
    pair_s: float

    @property
    def median(self) -> float:
        return median(sorted(self.log_ratios))

    @classmethod
    def of(cls, measurement: Measurement) -> "Stream":
        """Take the stream out of a recorded measurement."""
        log_ratios = tuple(pair.log_ratio for pair in measurement.pairs)
        return cls(log_ratios, measurement.timed_seconds / len(log_ratios))


Streams = Sequence[Stream]  # of one case, each from another pair of twins


def centred(streams: Streams) -> Streams:
    """The same noise around 0, so that an added shift is the whole effect; pairs of twins still differ."""
    centre = median_of(stream.median for stream in streams)
    return [Stream(tuple(d - centre for d in stream.log_ratios), stream.pair_s) for stream in streams]


@dataclass(frozen=True)
class Outcome:
    """How a rule decided one stream or case, None if the pairs ran out, and how many pairs and seconds it took."""

    change: Change | None
    pairs: int
    seconds: float
    near: bool = False  # the median lay above half the threshold
    repeats: bool = False  # it took more pairs than were recorded, so it read some of them twice


def replay(stream: Stream, test: PairedTest, budget_s: float, *, start: int = 0, shift: float = 0.0) -> Outcome:
    """Feed a stream to the rule, from ``start`` on and then from its beginning; ``shift`` is an added log-ratio."""
    ordered: list[float] = []
    for taken in range(max(1, int(budget_s / stream.pair_s))):
        insort(ordered, stream.log_ratios[(start + taken) % len(stream.log_ratios)] + shift)
        if test.is_certain(ordered):
            break
    pairs, repeats = len(ordered), len(ordered) > len(stream.log_ratios)
    return Outcome(test.decide(ordered), pairs, pairs * stream.pair_s, test.is_near(ordered), repeats)


def replay_case(
    streams: Streams, test: PairedTest, budget_s: float, order: random.Random, shift: float = 0.0
) -> Outcome:
    """Decide one case as the gate does, by two of three where one is not clear.

    Each measurement is of another pair of twins, in random order, as long as there are more.
    """
    drawn = cycle(order.sample(streams, len(streams)))
    taken: list[Outcome] = []
    while not taken or (index := vote([one.change for one in taken], near=taken[0].near)) is None:
        stream, rule = next(drawn), replace(test, confirming=bool(taken))
        start = order.randrange(len(stream.log_ratios))
        taken.append(replay(stream, rule, budget_s, start=start, shift=shift))
    pairs, seconds = sum(one.pairs for one in taken), sum(one.seconds for one in taken)
    return Outcome(taken[index].change, pairs, seconds, repeats=any(one.repeats for one in taken))


def replay_run(
    recording: Sequence[Streams], policy: Policy, test: PairedTest, order: random.Random
) -> tuple[Outcome, ...]:
    """Decide every case, unchanged, sharing the budget as the gate does."""
    budget = SharedBudget(policy.budget_s, len(recording))
    outcomes: list[Outcome] = []
    for streams in recording:
        outcomes.append(replay_case(streams, test, budget.allowance_s(), order))
        budget.spend(outcomes[-1].seconds)
    return tuple(outcomes)


def wald_pairs(log_ratios: Sequence[float], threshold: float, *, alarm_level: float, miss_level: float) -> float:
    """Return the pairs that Wald's test of the sign of (d - threshold / 2) expects to take on unchanged code.

    Effect 0 against the threshold, with these probabilities of either error, and the sign's probabilities taken from
    the pairs (at least half a pair's worth). Infinite where the sign is as likely on code slowed by the threshold.
    Source: Wald 1945, "Sequential tests of statistical hypotheses", the approximation of the average sample number.
    """
    n = len(log_ratios)

    def above(shift: float) -> float:
        share = sum(d + shift > threshold / 2 for d in log_ratios) / n
        return min(max(share, 0.5 / n), 1 - 0.5 / n)

    unchanged, slowed = above(0.0), above(threshold)
    drift = unchanged * log(slowed / unchanged) + (1 - unchanged) * log((1 - slowed) / (1 - unchanged))
    passes, fails = log(miss_level / (1 - alarm_level)), log((1 - miss_level) / alarm_level)
    return ((1 - alarm_level) * passes + alarm_level * fails) / drift if drift else inf


def sign_correlation(stream: Stream) -> float:
    """Return the lag-1 correlation of the signs of d - median(d): near 0 where pairs do not depend on each other."""
    centre = stream.median
    signs = [1 if d > centre else -1 for d in stream.log_ratios]
    return fmean(a * b for a, b in pairwise(signs))


def streams_of(recording: Mapping[str, Sequence[Measurement]]) -> list[Streams]:
    """Take the streams out of a recording, in its order."""
    return [[Stream.of(measurement) for measurement in measurements] for measurements in recording.values()]
