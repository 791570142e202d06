"""What is right: builds the inputs of a case, computes oracle and yardstick, and judges what the sides show.

It lives in a process of its own beside the sides, so that nothing that they change reaches it, and works while they do.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from itertools import combinations
from math import isfinite
from pathlib import Path

import torch

from ..observing import drift
from ..observing.tolerance import Results, distance
from ..plain.evidence import TensorError
from ..plain.execution import WRONG, Calls, Ceiling, Cost, Fingerprint
from ..sources.target import PACKAGE
from ..timing import environment
from .cases import DTYPES, Case
from .ceiling import ceilings
from .contents import with_others
from .cost import cost_of
from .oracle import oracle, yardstick
from .worker import Given, Shown
from .workload import Workload, build

EARLIER_SHARE = 0.1  # a result belongs to other inputs if it is nearer to theirs than this share of its error
EARLIER_S = 1.0  # for one case: after that, no more combinations of inputs are tried
_OF_VALUES = ("stale", "unwritten", "odd_first", "second_backward")  # fields of ``Calls`` that name wrong results


@dataclass(frozen=True)
class Judged:
    """The errors of the head's results, the fingerprints with what results said of calls, and the work of the case."""

    errors: tuple[TensorError, ...]
    head: Fingerprint
    base: Fingerprint | None
    work: Cost


class Examiner:
    """The case at hand, and what its results should be. Its methods are the commands of ``party.Party``."""

    def __init__(self) -> None:
        self._workload: Workload
        self._exact: Results
        self._naive: Results

    def load(self, suite: Path, threads: int) -> None:
        """Make a fresh process ready: the oracle is imported without the kernels beside it, which may change torch."""
        spec = PathFinder.find_spec(PACKAGE, [str(suite)])
        assert spec is not None  # it ships with the suite
        sys.modules[PACKAGE] = module_from_spec(spec)  # not executed: that would import every kernel
        torch.set_num_threads(threads)

    def lacks(self, case: Case) -> str | None:
        """Say what the device lacks for the case, if it lacks something."""
        return environment.lacks(case.device, DTYPES[case.dtype])

    def available_bytes(self, device: str) -> int:
        return environment.available_bytes(device)

    def pose(self, case: Case, attempt: int, parameters: Mapping[str, torch.Size], path: Path | None) -> Given:
        """Build the inputs of a case; returns them, or the file that they are written to."""
        self._workload = build(case, parameters, attempt)
        if path is None:
            return self._workload
        torch.save(self._workload, path)
        return path

    def expect(self) -> None:
        """Compute what is right, and what error is normal."""
        with torch.set_grad_enabled(self._workload.case.backward):
            self._exact, self._naive = oracle(self._workload), yardstick(self._workload)

    def judge(self, head: Shown, base: Shown | None, stored: Mapping[str, float] | None) -> Judged:
        """Hold the results of the head to their budget, to the base's and to stored errors."""
        workload = self._workload
        with torch.set_grad_enabled(workload.case.backward):
            head_results, base_results = self._read(head), None if base is None else self._read(base)
            errors = drift.hold_to_budget(
                head_results,
                self._exact,
                self._naive,
                base_results,
                stored=stored,
                looser=workload.looser,
                values=workload.case.shape.values,
            )
            wrong = [error.name for error in errors if error.complaints]
            head_print = self._noting_earlier(head.fingerprint, head_results, wrong)
            base_print = None
            if base is not None and base_results is not None:
                wrong = [error.name for error in errors if error.base is not None and error.base > error.budget]
                base_print = self._noting_earlier(base.fingerprint, base_results, wrong)
        return Judged(_held_to_calls(errors, head_print.calls), head_print, base_print, self.work())

    def work(self) -> Cost:
        """Return the work of the case at hand."""
        return cost_of(self._workload.case, self._workload.d_feedforward)

    def ceilings(self, works: Sequence[Cost]) -> tuple[Ceiling, ...]:
        """Measure what the machine can do at most."""
        return ceilings(works)

    def _read(self, shown: Shown) -> Results:
        if not isinstance(shown.results, Path):
            return shown.results
        results: Results = torch.load(shown.results, map_location=self._workload.case.device, weights_only=True)
        return results

    def _noting_earlier(self, print_: Fingerprint, results: Results, wrong: Sequence[str]) -> Fingerprint:
        """Note in the fingerprint if the wrong results of a call belong to the inputs of the call before it."""
        if not wrong or print_.calls is None or not self._belong_to_earlier(results, wrong):
            return print_
        stale = tuple(name for name in results if name in wrong or name in print_.calls.stale)
        return replace(print_, calls=replace(print_.calls, stale=stale))

    def _belong_to_earlier(self, results: Results, wrong: Sequence[str]) -> bool:
        """Say whether the wrong results are right for the contents of the first call (see ``purity``).

        All inputs may be old, or one, or two: a mask that was converted once, say, or scores of q and k that were kept.
        """
        errors = {name: distance(results[name], self._exact[name]) for name in wrong}
        if not all(map(isfinite, errors.values())):
            return False
        workload, end_s = self._workload, time.monotonic() + EARLIER_S
        mask = [] if workload.mask is None else ["mask"]
        upstream = ["upstream"] if workload.case.backward else []
        names = dict.fromkeys([*workload.inputs, *mask, *upstream, *workload.frozen])
        for old in (tuple(names), *((name,) for name in names), *combinations(names, 2)):
            earlier = yardstick(with_others(workload, frozenset(old)))
            if all(distance(results[name], earlier[name]) < EARLIER_SHARE * error for name, error in errors.items()):
                return True
            if time.monotonic() > end_s:
                break
        return False


def _held_to_calls(errors: tuple[TensorError, ...], calls: Calls | None) -> tuple[TensorError, ...]:
    """Add to the complaints about each result, as the first of them, what its calls have shown."""
    if calls is None:
        return errors
    said = {name: WRONG[field] for field in _OF_VALUES for name in getattr(calls, field)}
    for other in calls.other_modes:
        name, _, mode = other.partition(" ")
        said[name] = f"{WRONG['other_modes']} {mode}"
    return tuple(
        replace(error, complaints=(f"{error.name}: {said[error.name]}", *error.complaints))
        if error.name in said
        else error
        for error in errors
    )
