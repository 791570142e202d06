"""Whether a wrong result is right for the values that the inputs, or some of them, held before."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from math import isfinite

from ..plain.execution import Fingerprint
from ..sides.workload import Workload
from .alike import Results, distance
from .contents import with_others
from .drift import yardstick

SHARE = 0.1  # of its error: a result is no farther than this from what it is said to belong to
SECONDS = 1.0  # for one case: as long as that takes, more inputs are tried


def noting_earlier(
    print_: Fingerprint, workload: Workload, results: Results, exact: Results, wrong: Sequence[str]
) -> Fingerprint:
    """Note in the fingerprint of a call whose results are wrong if they are what its first call was made on."""
    if not wrong or print_.calls is None or not belongs_to_earlier(workload, results, exact, wrong):
        return print_
    stale = tuple(name for name in results if name in wrong or name in print_.calls.stale)
    return replace(print_, calls=replace(print_.calls, stale=stale))


def belongs_to_earlier(workload: Workload, results: Results, exact: Results, wrong: Sequence[str]) -> bool:
    """Say whether the results that are wrong are those of what the first call was made on (see ``calls``).

    Tried are all inputs, each, and each two of them: a mask that was converted once, scores of q and k that are kept.
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
