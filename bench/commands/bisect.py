"""``bisect``: finds the commit that made a test slower, wrong or different; checks nothing out in the repository."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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

UNDECIDED = 125  # tells git bisect run to skip this commit
FINE = (Verdict.UNCHANGED, Verdict.WAIVED, Verdict.FASTER)
TELLING = (Verdict.REGRESSED, Verdict.DRIFTED, Verdict.CHANGED, Verdict.FASTER, Verdict.ERROR, Verdict.MISSING)

Judge = Callable[[str], Run]  # compares one case of a commit, or of the working tree if it is "", with good


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
    parser.add_argument(
        "--bad", metavar="REV", help="a revision that is not (default HEAD; with --step the working tree)"
    )
    parser.add_argument(
        "--step",
        action="store_true",
        help=f"judge --bad alone, for git bisect run: exit code 0 good, 1 bad, {UNDECIDED} uncertain, 128 refused",
    )
    PERCENT.declare(parser, "--gate-threshold", f"{Policy.threshold:.0%}", "what counts as slower")
    SECONDS.declare(parser, "--gate-budget", None, "most time one measurement of a step may take (default as pytest's)")
    THREADS.declare(parser, "--threads", str(DEFAULT_THREADS), "CPU threads")
    formats.declare(parser, "the commit's verdict")
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
    good = known_commit(place, options.good)
    given = [options.case, f"--gate-base={good}", f"--gate-budget={budget_s(options):g}"]

    def judge(commit: str) -> Run:
        run = gated([*given, *([f"--gate-head={commit}"] if commit else [])], options)
        results = tuple(case for case in run.cases if case.id == options.case)
        if len(results) != 1:
            raise CannotDo(f"{options.case} is no test with one result: give a node id, with its parameters")
        return replace(run, cases=results)

    return conclude(Commits(place, [], good), judge, options)


def budget_s(options: argparse.Namespace) -> float:
    """Return the most seconds that one measurement may take."""
    given: float | None = options.gate_budget
    return Policy.default_budget_s(options.gate_threshold) if given is None else given


def conclude(commits: "Commits", judge: Judge, options: argparse.Namespace) -> int:
    """Search, print each step, and report on the commit that is found; or judge one commit alone; as ``run`` returns.

    Raises:
        CannotDo: no such revision, a report cannot be written, or good and bad do not differ with certainty.

    """
    formats.check(formats.asked(options))
    if options.step:
        return step(judge, "" if options.bad is None else known_commit(commits.place, options.bad))
    report(commits, *search(commits, judge, known_commit(commits.place, options.bad or "HEAD")), options)
    return 0


def step(judge: Judge, commit: str) -> int:
    """Judge one commit for ``git bisect run``, and print what was found."""
    try:
        (result,) = judge(commit).cases
    except CannotDo as why:  # this commit cannot be compared; others may
        print(f"skipped: {why}")
        return UNDECIDED
    print(describe(result, ()))
    if result.verdict in FINE:
        return 0
    undecided = {Verdict.INCONCLUSIVE, Verdict.SKIPPED, Verdict.ERROR, Verdict.NEW}  # NEW: good does not run it
    return UNDECIDED if result.verdict in undecided else 1


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


def search(commits: Commits, judge: Judge, bad: str, say: Callable[[str], None] = print) -> tuple[str, Run]:
    """Find the first commit that has the verdict of ``bad``; what is undecided, or fails in another way, is skipped.

    Returns the commit, and the run that judged it.

    Raises:
        CannotDo: bad is not certainly different from good, or all that is left was skipped.

    """
    left = commits.halving(bad, [])
    if not left:
        raise CannotDo("no commit between good and bad changed the code that is compared: choose other revisions")
    runs = {bad: judge(bad)}
    (worst,) = runs[bad].cases
    say(f"bad   {commits.describe(bad)}: {_brief(worst)}")
    if worst.verdict not in TELLING:
        raise CannotDo(f"bad is {_brief(worst)} against good: choose other revisions, or give a higher --gate-budget")
    goods, skipped = list[str](), set[str]()
    while untried := [commit for commit in left if commit not in {bad, *skipped}]:
        commit = untried[0]
        if len(left) == 1:  # bad holds no other change
            runs[commit], bad = runs[bad], commit
            break
        most = ceil(log2(len(untried) + 1))
        say(f"next  {commits.describe(commit)}; {len(untried)} left, at most {most} more to judge")
        try:
            runs[commit] = judge(commit)
        except CannotDo as why:
            say(f"skip  it: {why}")
            skipped.add(commit)
            continue
        (result,) = runs[commit].cases
        if result.verdict is worst.verdict:
            said, bad = "bad ", commit
        elif result.verdict in FINE:
            said, goods = "good", [*goods, commit]
        else:
            said, skipped = "skip", {*skipped, commit}
        say(f"{said}  it is {_brief(result)}")
        left = commits.halving(bad, goods)
    if maybe := [commit for commit in left if commit in skipped]:
        listed = "; ".join(commits.describe(commit) for commit in [*maybe, bad])
        raise CannotDo(
            f"the first bad commit is one of these; all but the last were skipped: {listed}; "
            "give a higher --gate-budget"
        )
    return bad, runs[bad]


def _brief(result: CaseResult) -> str:
    ratio = "" if result.ratio is None else f" {result.ratio:.3f}"
    return f"{result.verdict.value}{ratio}{f', {result.reasons[0]}' if result.reasons else ''}".partition("\n")[0]


def report(commits: Commits, found: str, run_: Run, options: argparse.Namespace) -> None:
    """Say which commit it is, and write the reports that were asked for."""
    (result,) = run_.cases
    print(f"\n{found} is the first that is {result.verdict.value}\n{commits.describe(found)}\n{describe(result, ())}")
    formats.write_asked(run_, options)
