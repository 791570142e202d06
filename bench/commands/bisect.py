"""``bisect``: finds the commit that made a test slower, wrong or different; checks nothing out in the repository."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, log2
from pathlib import Path
from typing import Any

from ..judging.policy import Policy
from ..judging.run import Run
from ..judging.verdict import CaseResult, Verdict
from ..plain.arguments import DEFAULT_THREADS, PERCENT, SECONDS, THREADS
from ..plain.errors import CannotDo
from ..report import formats
from ..report.terminal import describe
from ..selftest.runs import gated
from ..sources.repository import git, known_commit

REPORTS = ("json", "markdown", "html")
UNDECIDED = 125  # tells git bisect run to skip this commit
FINE = (Verdict.UNCHANGED, Verdict.WAIVED, Verdict.FASTER)
TELLING = (Verdict.REGRESSED, Verdict.DRIFTED, Verdict.CHANGED, Verdict.FASTER, Verdict.ERROR, Verdict.MISSING)

Judge = Callable[[str], CaseResult]  # compares a commit, or the working tree if it is "", with good


def add_command(commands: Any) -> None:
    """Declare ``bisect`` among the commands of the command line."""
    declare(commands).set_defaults(run=run)


def declare(commands: Any) -> argparse.ArgumentParser:
    """Declare the command and its options."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bisect", help="find the commit that made a test slower, wrong or different"
    )
    parser.add_argument("case", metavar="CASE", help="its id, as reports show it")
    parser.add_argument("--good", required=True, metavar="REV", help="a revision that is as it should be")
    parser.add_argument("--bad", metavar="REV", help="one that is not (default HEAD; with --step the working tree)")
    parser.add_argument(
        "--step",
        action="store_true",
        help=f"judge --bad alone, for git bisect run: exit code 0 good, 1 bad, {UNDECIDED} neither is certain",
    )
    PERCENT.declare(parser, "--gate-threshold", f"{Policy.threshold:.0%}", "what counts as slower")
    SECONDS.declare(parser, "--gate-budget", f"{Policy.budget_s:g}", "most time one measurement of a step may take")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "CPU threads")
    for form in REPORTS:
        parser.add_argument(f"--{form}", type=Path, metavar="PATH", help=f"write the commit's verdict as {form}")
    return parser


def run(options: argparse.Namespace) -> int:
    """Search for the commit that changed a benchmark, the test that is on disk now.

    Returns 0 if a commit was found; with ``--step``, the exit code that ``git bisect run`` expects.

    Raises:
        CannotDo: no such revision or test, or good and bad do not differ with certainty.

    """
    if "::" not in options.case:
        raise CannotDo(f"{options.case} is no test: give its node id, such as benchmarks/test_speed.py::test_it")
    place = Path.cwd()
    steps = TestSteps(options.case, known_commit(place, options.good), options)
    if options.step:
        return step(steps.judge, "" if options.bad is None else known_commit(place, options.bad))
    commits = Commits(place, [], steps.good)
    found, _ = search(commits, steps.judge, known_commit(place, options.bad or "HEAD"))
    report(commits, found, steps.runs[found], options)
    return 0


@dataclass
class TestSteps:
    """Compares a test at one commit after the other with the good one; ``runs`` are by commit."""

    __test__ = False  # pytest must not collect it

    node_id: str
    good: str
    options: argparse.Namespace
    runs: dict[str, Run] = field(default_factory=dict)

    def judge(self, commit: str) -> CaseResult:
        """Compare a commit, or the working tree if that is empty, with the good revision.

        Raises:
            CannotDo: one of them cannot run the test.

        """
        options = self.options
        arguments = [
            self.node_id,
            f"--gate-base={self.good}",
            f"--gate-threshold={100 * options.gate_threshold:g}%",
            f"--gate-budget={options.gate_budget:g}",
            f"--gate-threads={options.threads}",
            *([f"--gate-head={commit}"] if commit else []),
        ]
        self.runs[commit] = found = gated(arguments)
        results = [case for case in found.cases if case.id == self.node_id]
        if len(results) != 1:
            raise CannotDo(f"{self.node_id} is no test with one result: give a node id, with its parameters")
        return results[0]


def step(judge: Judge, commit: str) -> int:
    """Judge one commit for ``git bisect run``, and print what was found."""
    try:
        result = judge(commit)
    except CannotDo as why:  # this commit cannot be compared; others may
        print(f"skipped: {why}")
        return UNDECIDED
    print(describe(result, ()))
    if result.verdict in FINE:
        return 0
    return UNDECIDED if result.verdict in {Verdict.INCONCLUSIVE, Verdict.SKIPPED, Verdict.ERROR} else 1


@dataclass(frozen=True)
class Commits:
    """The commits that changed what is compared, as git orders them for a search; without names, all commits."""

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


def search(commits: Commits, judge: Judge, bad: str, say: Callable[[str], None] = print) -> tuple[str, CaseResult]:
    """Find the first commit that has the verdict of ``bad``; what is undecided, or fails in another way, is skipped.

    Raises:
        CannotDo: bad is not certainly different from good, or all that is left was skipped.

    """
    left = commits.halving(bad, [])
    if not left:
        raise CannotDo("no commit between good and bad changed what is compared: choose others")
    worst = judge(bad)
    say(f"bad   {commits.describe(bad)}: {_brief(worst)}")
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
        most = ceil(log2(len(untried) + 1))
        say(f"next  {commits.describe(commit)}; {len(untried)} left, at most {most} more to judge")
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
        left = commits.halving(bad, goods)
    if maybe := [commit for commit in left if commit in skipped]:
        listed = "; ".join(commits.describe(commit) for commit in [*maybe, bad])
        raise CannotDo(
            f"it is one of these, of which only the last could be judged: {listed}; give a higher --gate-budget"
        )
    return bad, results[bad]


def _brief(result: CaseResult) -> str:
    ratio = "" if result.ratio is None else f" {result.ratio:.3f}"
    return f"{result.verdict.value}{ratio}{f', {result.reasons[0]}' if result.reasons else ''}".partition("\n")[0]


def report(commits: Commits, found: str, run_: Run, options: argparse.Namespace) -> None:
    """Say which commit it is, and write the reports that were asked for."""
    (result,) = run_.cases
    print(f"\n{found} is the first that is {result.verdict.value}\n{commits.describe(found)}\n{describe(result, ())}")
    for form in REPORTS:
        if getattr(options, form) is not None:
            formats.write(form, run_, getattr(options, form))
