"""Deals the cases of a run to its shards, in the same way on every machine. Pure."""

from collections.abc import Mapping


def deal(costs: Mapping[str, float], count: int) -> list[list[str]]:
    """Deal cases into ``count`` parts of about equal cost: the costliest first, each to the cheapest part so far.

    ``costs`` are by id. This is Graham's longest-processing-time rule (1969): the costliest part is at most a third
    above the best possible.
    """
    totals = [0.0] * count
    parts: list[set[str]] = [set() for _ in totals]
    for id_ in sorted(costs, key=lambda id_: (-costs[id_], id_)):
        cheapest = totals.index(min(totals))
        totals[cheapest] += costs[id_]
        parts[cheapest].add(id_)
    return [[id_ for id_ in costs if id_ in part] for part in parts]
