"""``bisect`` for a case of the suite, or of kernels of another repository; a test is bisected as the engine does."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from ..judging.policy import Policy
from ..judging.replication import Replications
from ..judging.run import Run
from ..judging.verdict import CaseResult
from ..plain.errors import CannotDo
from ..sources import source
from ..sources.repository import known_commit
from ..sources.source import Source
from ..sources.target import Target, place_of
from ..suite import code
from ..suite.base import Base
from ..suite.code import Code
from ..suite.forked import starts_of, twins
from ..suite.gate import Gate
from ..suite.matrix import Rows
from ..timing import environment
from ..timing.machine import steady_allocator
from . import bisect, target_options
from .explain import find

if TYPE_CHECKING:
    from ..suite.cases import Case


def add_command(commands: Any) -> None:
    """Declare ``bisect`` among the commands of the command line."""
    parser = bisect.declare(commands)
    target_options.declare(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Comparison:
    """What all steps of the search share: the good revision, the case, the stopping rule, and the threads."""

    good: str
    target: Target
    rows: Rows
    place: Path
    policy: Policy
    case_id: str
    threads: int

    def judge(self, commit: str) -> CaseResult:
        """Compare a commit, or the working tree if that is empty, with the good revision.

        Raises:
            CannotDo: one of them does not load, or has no such case.

        """
        with TemporaryDirectory(prefix="attention-gate-") as directory:
            scratch = Path(directory)
            codes = {"base": code.of_revision(self.target, self.good, scratch), "head": self._code_of(commit, scratch)}
            devices = environment.present_devices()
            with twins(starts_of(codes, self.target, devices, self.threads, scratch), scratch) as sides:
                assert sides.base is not None  # it has loaded
                case: Case = find(self.case_id, sides.base, self.rows)
                if not sides.head.ask("supports", case):
                    raise CannotDo(f"{codes['head'].source.origin} does not support {self.case_id}")
                gate = Gate(sides, Base(codes["base"].source))
                test = self.policy.test(1, replications=Replications(self.policy.false_alarm))
                return gate.compare(case, test, self.policy.budget_s)

    def _code_of(self, commit: str, scratch: Path) -> Code:
        return code.of_revision(self.target, commit, scratch) if commit else code.of_working_tree(self.target)

    def run_of(self, commit: str, result: CaseResult) -> Run:
        """Return the run that a result of ``judge`` is of, for reports."""
        base, head = self.source_of(self.good), self.source_of(commit)
        return Run(
            base={"origin": base.origin, "source_sha256": base.sha256},
            head={"origin": head.origin, "source_sha256": head.sha256},
            environment=environment.describe(steady_allocator()),
            policy=self.policy,
            cases=(result,),
        )

    def source_of(self, commit: str) -> Source:
        """Return the source of a commit, or of the working tree if that is empty."""
        if not commit:
            return source.imported(self.target.names)
        return source.from_revision(self.place, commit, self.target.names)


def run(options: argparse.Namespace) -> int:
    """Search, print each step, and report on the commit that is found.

    Returns 0 if a commit was found; with ``--step``, the exit code that ``git bisect run`` expects.

    Raises:
        CannotDo: no such revision or case, or good and bad do not differ with certainty.

    """
    if "::" in options.case:
        return bisect.run(options)
    torch.set_num_threads(options.threads)
    steady_allocator()
    with target_options.asked(options) as (target, rows):
        policy = Policy(options.gate_threshold, options.gate_budget)
        place = place_of(target.names[0])
        good = known_commit(place, options.good)
        comparison = Comparison(good, target, rows, place, policy, options.case, options.threads)
        if options.step:
            return bisect.step(comparison.judge, options.bad or "")
        commits = bisect.Commits(place, target.names, good)
        found, result = bisect.search(commits, comparison.judge, known_commit(place, options.bad or "HEAD"))
        bisect.report(commits, found, comparison.run_of(found, result), options)
    return 0
