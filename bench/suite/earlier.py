"""Whether a wrong result is the right one for values that some or all inputs held before."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from math import isfinite

from ..observing.tolerance import Results, distance
from ..plain.execution import Fingerprint
from .contents import with_others
from .oracle import yardstick
from .workload import Workload

SHARE = 0.1  # a result belongs to other inputs if it is nearer to theirs than this share of its error
SECONDS = 1.0  # for one case: after that, no more combinations of inputs are tried


def noting_earlier(
    print_: Fingerprint, workload: Workload, results: Results, exact: Results, wrong: Sequence[str]
) -> Fingerprint:
    """Note in the fingerprint if the wrong results of a call belong to the inputs of the call before it."""
    if not wrong or print_.calls is None or not belongs_to_earlier(workload, results, exact, wrong):
        return print_
    stale = tuple(name for name in results if name in wrong or name in print_.calls.stale)
    return replace(print_, calls=replace(print_.calls, stale=stale))


def belongs_to_earlier(workload: Workload, results: Results, exact: Results, wrong: Sequence[str]) -> bool:
    """Say whether the wrong results belong to the contents of the first call (see ``calls``).

    All inputs may be old, or one, or two: a mask that was converted once, say, or scores of q and k that were kept.
    """
    errors = {name: distance(results[name], exact[name]) for name in wrong}
    if not all(map(isfinite, errors.values())):
        return False
    end_s = time.monotonic() + SECONDS
    for names in _candidates(workload):
        earlier = yardstick(with_others(workload, names))
        if all(distance(results[name], earlier[name]) < SHARE * error for name, error in errors.items()):
            return True
        if time.monotonic() > end_s:
            break
    return False


def _candidates(workload: Workload) -> Iterator[frozenset[str]]:
    mask = [] if workload.mask is None else ["mask"]
    upstream = ["upstream"] if workload.case.backward else []
    names = list(dict.fromkeys([*workload.inputs, *mask, *upstream, *workload.frozen]))
    yield frozenset(names)
    for size in (1, 2):
        yield from map(frozenset, combinations(names, size))
