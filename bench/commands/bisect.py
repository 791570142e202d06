"""``python -m bench bisect``: finds the commit that made a case slower, wrong or different; checks nothing out."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..cases import Case, Row
from ..gate import Gate
from ..judging.policy import Policy
from ..judging.run import Run
from ..judging.verdict import CaseResult, Verdict
from ..plain.arguments import DEFAULT_THREADS, PERCENT, SECONDS, THREADS
from ..plain.errors import CannotDo
from ..report import formats
from ..report.terminal import describe
from ..sides import code, source
from ..sides.base import Base
from ..sides.code import Code
from ..sides.repository import git, known_commit
from ..sides.source import Source
from ..sides.what import What, place_of
from ..timing import environment
from ..timing.machine import steady_allocator
from ..twins.forked import starts_of, twins
from .asked import asked, declare
from .explain import find

REPORTS = ("json", "markdown", "html")
UNDECIDED = 125  # tells git bisect run to skip this commit
FINE = (Verdict.UNCHANGED, Verdict.WAIVED, Verdict.FASTER)
TELLING = (Verdict.REGRESSED, Verdict.DRIFTED, Verdict.CHANGED, Verdict.FASTER, Verdict.ERROR, Verdict.MISSING)

Judge = Callable[[str], CaseResult]  # compares a commit, or the working tree if it is "", with good


def add_command(commands: Any) -> None:
    """Declare ``bisect`` among the commands of the command line."""
    parser = commands.add_parser("bisect", help="find the commit that made a case slower, wrong or different")
    parser.add_argument("case", metavar="CASE", help="its id, as reports show it")
    parser.add_argument("--good", required=True, metavar="REV", help="a revision that is as it should be")
    parser.add_argument("--bad", metavar="REV", help="one that is not (default HEAD; with --step the working tree)")
    parser.add_argument(
        "--step",
        action="store_true",
        help=f"judge --bad alone, for git bisect run: exit code 0 good, 1 bad, {UNDECIDED} neither is certain",
    )
    declare(parser)
    PERCENT.declare(parser, "--gate-threshold", f"{Policy.threshold:.0%}", "what counts as slower")
    SECONDS.declare(parser, "--gate-budget", f"{Policy.budget_s:g}", "most time one measurement of a step may take")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "CPU threads")
    for form in REPORTS:
        parser.add_argument(f"--{form}", type=Path, metavar="PATH", help=f"write the commit's verdict as {form}")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Comparison:
    """What all steps of the search share: the good revision, the case, the stopping rule, and the threads."""

    good: str
    what: What
    rows: Sequence[Row]
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
            codes = {"base": code.of_revision(self.what, self.good, scratch), "head": self._code_of(commit, scratch)}
            devices = environment.present_devices()
            with twins(starts_of(codes, self.what, devices, self.threads, scratch), scratch) as sides:
                assert sides.base is not None  # it has loaded
                case: Case = find(self.case_id, sides.base, self.rows)
                if not sides.head.ask("supports", case):
                    raise CannotDo(f"{codes['head'].source.origin} does not support {self.case_id}")
                gate = Gate(sides, Base(codes["base"].source))
                return gate.compare(case, self.policy.test(1), self.policy.budget_s)

    def _code_of(self, commit: str, scratch: Path) -> Code:
        return code.of_revision(self.what, commit, scratch) if commit else code.of_working_tree(self.what)

    def source_of(self, commit: str) -> Source:
        """Return the source of a commit, or of the working tree if that is empty."""
        if not commit:
            return source.imported(self.what.names)
        return source.from_revision(self.place, commit, self.what.names)


def run(options: argparse.Namespace) -> int:
    """Search, print each step, and report on the commit that is found.

    Returns 0 if a commit was found; with ``--step``, the exit code that ``git bisect run`` expects.

    Raises:
        CannotDo: no such revision or case, or good and bad do not differ with certainty.

    """
    torch.set_num_threads(options.threads)
    steady_allocator()
    with asked(options) as (what, rows):
        policy = Policy(options.gate_threshold, options.gate_budget)
        place = place_of(what.names[0])
        good = known_commit(place, options.good)
        comparison = Comparison(good, what, rows, place, policy, options.case, options.threads)
        if options.step:
            return _step(comparison, options.bad or "")
        history = History(place, what.names, good)
        found, result = search(history, comparison.judge, known_commit(place, options.bad or "HEAD"))
        _report(comparison, history, found, result, options)
    return 0


def _step(comparison: Comparison, commit: str) -> int:
    try:
        result = comparison.judge(commit)
    except CannotDo as why:  # this commit cannot be compared; others may
        print(f"skipped: {why}")
        return UNDECIDED
    print(describe(result, ()))
    if result.verdict in FINE:
        return 0
    return UNDECIDED if result.verdict in {Verdict.INCONCLUSIVE, Verdict.SKIPPED, Verdict.ERROR} else 1


@dataclass(frozen=True)
class History:
    """The commits that changed what is compared, as git orders them for a search."""

    place: Path
    names: Sequence[str]
    good: str

    def halving(self, bad: str, goods: Sequence[str]) -> list[str]:
        """List the commits that ``bad`` has and no good one has, ``bad`` included, those first that halve the rest."""
        paths = [f"{folder}{name}{ending}" for name in self.names for folder in ("", "src/") for ending in ("", ".py")]
        excluded = [f"^{commit}" for commit in (self.good, *goods)]
        listed = git(self.place, "rev-list", "--bisect-all", bad, *excluded, "--", *paths).decode()
        return [line.split()[0] for line in listed.splitlines()]

    def describe(self, commit: str) -> str:
        return git(self.place, "show", "-s", "--format=%h %s (%an, %as)", commit).decode().strip()


def search(history: History, judge: Judge, bad: str, say: Callable[[str], None] = print) -> tuple[str, CaseResult]:
    """Find the first commit that has the verdict of ``bad``; what is undecided, or fails in another way, is skipped.

    Raises:
        CannotDo: bad is not certainly different from good, or all that is left was skipped.

    """
    left = history.halving(bad, [])
    if not left:
        raise CannotDo("no commit between good and bad changed what is compared: choose others")
    worst = judge(bad)
    say(f"bad   {history.describe(bad)}: {_brief(worst)}")
    if worst.verdict not in TELLING:
        raise CannotDo(f"bad is {_brief(worst)} against good: choose others, or give a higher --gate-budget")
    results, goods, skipped = {bad: worst}, list[str](), set[str]()
    while True:
        untried = [commit for commit in left if commit not in {bad, *skipped}]
        if not untried:
            break
        commit = untried[0]
        if len(left) == 1:  # bad holds no other change
            results[commit], bad = worst, commit
            break
        say(f"next  {history.describe(commit)}; {len(untried)} left, about {ceil(log2(len(untried) + 1))} steps")
        try:
            results[commit] = judge(commit)
        except CannotDo as why:
            say(f"skip  it: {why}")
            skipped.add(commit)
            continue
        verdict = results[commit].verdict
        if verdict is worst.verdict:
            bad = commit
        elif verdict in FINE:
            goods.append(commit)
        else:
            skipped.add(commit)
        say(f"{'bad ' if bad == commit else 'good' if commit in goods else 'skip'}  it is {_brief(results[commit])}")
        left = history.halving(bad, goods)
    if maybe := [commit for commit in left if commit in skipped]:
        listed = "; ".join(history.describe(commit) for commit in [*maybe, bad])
        raise CannotDo(
            f"it is one of these, of which only the last could be judged: {listed}; give a higher --gate-budget"
        )
    return bad, results[bad]


def _brief(result: CaseResult) -> str:
    ratio = "" if result.ratio is None else f" {result.ratio:.3f}"
    return f"{result.verdict.value}{ratio}{f', {result.reasons[0]}' if result.reasons else ''}".partition("\n")[0]


def _report(
    comparison: Comparison, history: History, found: str, result: CaseResult, options: argparse.Namespace
) -> None:
    good, head = comparison.source_of(comparison.good), comparison.source_of(found)
    print(f"\n{found} is the first that is {result.verdict.value}\n{history.describe(found)}\n{describe(result, ())}")
    run_ = Run(
        base={"origin": good.origin, "source_sha256": good.sha256},
        head={"origin": head.origin, "source_sha256": head.sha256},
        environment=environment.describe(steady_allocator()),
        policy=comparison.policy,
        cases=(result,),
    )
    for form in REPORTS:
        if getattr(options, form) is not None:
            formats.write(form, run_, getattr(options, form))
