"""``bisect`` for a case of the suite, also of kernels of another repository; ``bisect.py`` is for tests."""

import argparse
from functools import partial
from typing import Any

from ..judging.policy import Policy
from ..judging.replication import Replications
from ..judging.run import Run
from ..plain.errors import CannotDo
from ..sources.repository import known_commit
from ..sources.target import place_of
from ..suite import code, config
from ..suite.base import Base
from ..suite.forked import LayOut, opened
from ..suite.gate import Gate
from ..timing import environment
from . import bisect, target_options
from .explain import find


def add_command(commands: Any) -> None:
    """Declare ``bisect`` among the commands of the command line."""
    parser = bisect.declare(commands)
    target_options.declare(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Search, print each step, and report on the commit that is found.

    Returns 0 if a commit was found; with ``--step``, the exit code that ``git bisect run`` expects.

    Raises:
        CannotDo: no such revision or case, or good and bad do not differ with certainty.

    """
    if "::" in options.case:
        return bisect.run(options)
    here = environment.describe(environment.hold_still(options.threads))
    policy, devices = Policy(options.gate_threshold, bisect.budget_s(options)), environment.present_devices()
    with target_options.asked(options) as (target, rows, own):
        accepted = config.accepted(own, target, lambda: [options.case], all_known=False).of(options.case)
        place = place_of(target.names[0])
        good = known_commit(place, options.good)

        def judge(commit: str) -> Run:
            at_commit, on_disk = partial(code.of_revision, target, commit), lambda _: code.of_working_tree(target)
            codes: dict[str, LayOut] = {
                "base": partial(code.of_revision, target, good),
                "head": at_commit if commit else on_disk,
            }
            with opened(codes, target, devices, options.threads) as (sides, laid_out):
                assert sides.base is not None  # it has loaded
                case = find(options.case, sides.base, rows)
                base, head = laid_out["base"].source, laid_out["head"].source
                if not sides.head.ask("supports", case):
                    raise CannotDo(f"{head.origin} does not support {case.id}")
                replications = Replications(policy.false_alarm)
                test = policy.test(1, accepted, replications, host=case.device == "cuda")
                result = Gate(sides, Base(base)).compare(case, test, policy.budget_s)
            return Run(base.described, head.described, here, policy, (result,))

        return bisect.conclude(bisect.Commits(place, target.names, good), judge, options)
