"""The verdicts as one page that needs no network: ``--gate-html``."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..judging.advice import advice
from ..judging.roofline import summary
from ..judging.run import EMPTY, ERROR, FAIL, PASS, PASS_IN_PART, Run
from ..judging.verdict import CaseResult, Verdict
from ..plain.printable import readable
from .details import Facts, details, write
from .flops import COLUMNS as FLOPS_COLUMNS
from .flops import rates
from .forest import Forest, Mark
from .pages import render
from .reproduce import commands
from .speed import COLUMNS as SPEED_COLUMNS
from .speed import speeds
from .text import COLUMNS, row

CARDS = 12  # cases shown before the table, which has all of them
REASONS = 2  # reasons in a row; its details have all of them

TONES = {ERROR: "fail", FAIL: "fail", EMPTY: "skip", PASS: "pass", PASS_IN_PART: "pass"}  # of the run

# Heading, kind (how it is aligned and sorted; the last two are not sorted), note below it.
TABLE = (
    ("Case", "text", ""),
    ("Verdict", "rank", ""),
    ("Ratio", "number", "head/base, interval"),
    ("Ratio, log scale", "plot", "axis"),
    ("Base", "number", "a call"),
    ("Head", "number", "base x ratio"),
    ("Pairs", "number", ""),
    ("Error", "number", "of its budget"),
    ("Why", "why", ""),
)


@dataclass(frozen=True)
class ReportRow:
    """One case as the page shows it.

    Its details, if it ``opens``, have the ``facts`` and the reasons as whole ``texts``; elsewhere they are a line each.
    """

    number: int
    case: CaseResult
    cells: dict[str, str]
    mark: Mark | None
    opens: bool
    facts: tuple[Facts, ...]
    texts: tuple[str, ...]
    reasons: tuple[str, ...]
    more_reasons: int
    commands: dict[str, str]


def as_html(run: Run) -> str:
    """Render the page; whatever comes from a case is escaped."""
    forest = Forest.around(run.cases, run.policy)
    rows = [_row(number, case, run, forest) for number, case in enumerate(run.worst_first)]
    failing = [row for row in rows if row.case.verdict.fails]
    return render(
        "report.html",
        ("colours", "common", "report"),
        ("filter", "table", "copy"),
        run=run,
        tone=TONES[run.word],
        steps=[(verdict, verdict.what_to_do) for verdict in dict.fromkeys(row.case.verdict for row in failing)],
        tones={verdict: verdict.tone for verdict in Verdict},
        warnings=advice(run),
        roofline=summary([(case.work, case.head_ns) for case in run.cases], run.ceilings),
        intervals=run.policy.intervals,
        threshold=f"{100 * run.policy.threshold:g}%",
        forest=forest,
        columns=TABLE,
        rows=rows,
        worst=failing[:CARDS],
        more_worst=len(failing[CARDS:]),
        measured=_measured(run),
        speed_columns=SPEED_COLUMNS,
        speeds=speeds(run.cases),
        rate_columns=FLOPS_COLUMNS,
        rates=rates(run.cases, run.ceilings),
    )


def _row(number: int, case: CaseResult, run: Run, forest: Forest) -> ReportRow:
    brief, texts, facts = case.brief, tuple(map(readable, case.reasons)), details(case, run.ceilings)
    again = commands(case, run.options) if case.verdict.fails else {}
    opens = bool(facts) or bool(again) or texts != brief.reasons
    shown = REASONS if opens else len(texts)
    return ReportRow(
        number,
        brief,
        cells=dict(zip(COLUMNS, row(brief), strict=True)),
        mark=forest.mark(case),
        opens=opens,
        facts=facts,
        texts=texts,
        reasons=brief.reasons[:shown],
        more_reasons=len(texts[shown:]),
        commands=again,
    )


def _measured(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """List what was compared, where, and by which rule: (title, [(name, value)])."""
    policy = run.policy
    rule = [
        ("threshold", f"{100 * policy.threshold:g}% slower must not pass"),
        ("certain from", f"half of it, {50 * policy.threshold:g}%"),
        ("false alarms", f"at most {policy.false_alarm:.1%} of runs without a slowdown"),
        ("misses", f"a case slowed by the threshold is called UNCHANGED in at most {policy.miss:.1%} of runs"),
        ("budget", f"{policy.budget_s:g} s a measurement"),
        ("undecided cases", f"at most {100 * policy.undecided:g}% of those compared"),
        ("timed", f"{sum(case.seconds for case in run.cases):.1f} s in all, {sum(c.pairs for c in run.cases)} pairs"),
    ]
    load = () if run.load is None else vars(run.load).items()
    sections = (("Base", run.base.items()), ("Head", run.head.items()), ("Environment", run.environment.items()))
    return [
        ("Rule", rule),
        *((title, _written(values)) for title, values in (*sections, ("Load on the machine", load)) if values),
    ]


def _written(values: Iterable[tuple[str, object]]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), write(name, value)) for name, value in values]
