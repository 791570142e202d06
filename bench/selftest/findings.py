"""What a self-test found: values, the table against the targets, and JSON, printed and written. No torch here."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from statistics import fmean

from ..judging.policy import Policy
from ..judging.statistics import median
from ..judging.verdict import CaseResult, Verdict
from ..plain.evidence import Measurement
from ..plain.files import write_atomically
from ..plain.strict_json import dumps
from .simulation import wald_pairs

SLOWDOWNS = (0.02, 0.05, 0.10, 0.20)  # that a self-test injects
SCHEMA = 1
TIMED_TIER, MOST_SECONDS = "pr", 90  # of measuring in a run, at the default threshold


@dataclass(frozen=True)
class UnchangedRun:
    """One run of the gate on unchanged code; ``process_s`` is how long its process took, where it had its own."""

    results: tuple[CaseResult, ...]
    process_s: float | None = None

    @property
    def counts(self) -> Counter[Verdict]:
        return Counter(result.verdict for result in self.results)

    @property
    def seconds(self) -> float:
        return sum(result.seconds for result in self.results)

    @property
    def measurements(self) -> list[Measurement]:
        """Every measurement; there is none where the verdicts were read from a file."""
        return [m for result in self.results for m in result.measurements]

    @property
    def duty(self) -> float | None:
        """The share of the measuring time that is inside timed calls; None where the measurements are not known."""
        total_s = sum(m.seconds for m in self.measurements)
        return sum(m.timed_seconds for m in self.measurements) / total_s if total_s else None


@dataclass(frozen=True)
class Injection:
    """One known change of one case, and whether the gate caught it; ``result`` where it was timed."""

    kind: str
    size: float
    case_id: str
    caught: bool
    result: CaseResult | None = None

    @classmethod
    def slowdown(cls, size: float, result: CaseResult) -> "Injection":
        """Take a case that was slowed down by a share."""
        return cls("slowdown", size, result.id, caught=result.verdict is Verdict.REGRESSED, result=result)


@dataclass(frozen=True)
class Findings:
    """All that a self-test found.

    ``tier`` is that of the matrix, and None of other tests. ``stock`` says for each stock check, run by run, whether it
    failed unchanged code; ``silent`` for each kind of silent fault whether it was caught.
    """

    environment: Mapping[str, object]
    policy: Policy
    tier: str | None = None
    unchanged: list[UnchangedRun] = field(default_factory=list)
    injected: list[Injection] = field(default_factory=list)
    stock: dict[str, list[bool]] = field(default_factory=dict)
    silent: dict[str, bool] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        """How many cases a run has."""
        return len(self.unchanged[0].results)

    def caught(self) -> dict[tuple[str, float], tuple[int, int]]:
        """Count, for each kind and size of injection, how many were caught and how many tried."""
        counts: dict[tuple[str, float], list[bool]] = defaultdict(list)
        for injection in self.injected:
            counts[injection.kind, injection.size].append(injection.caught)
        return {key: (sum(values), len(values)) for key, values in counts.items()}


def report(findings: Findings, as_json: Path | None) -> None:
    """Print the table, and write the JSON if that was asked for."""
    print("\n".join(table(findings)))
    if as_json is not None:
        write_atomically(as_json, dumps(document(findings), indent=2))


def table(findings: Findings) -> list[str]:
    """Write the findings, each beside its target and whether it is met."""
    of_what = f"{findings.cases} tests" if findings.tier is None else f"tier {findings.tier}, {findings.cases} cases"
    return [
        f"self-test: {of_what}, threshold {100 * findings.policy.threshold:g}%, {findings.seconds:.0f} s; "
        + ", ".join(f"{name} {value}" for name, value in findings.environment.items()),
        "",
        *_false_alarms(findings),
        *_power(findings),
        *_cost(findings),
        *(
            row(f"stock gate {check} fails unchanged code", share(sum(runs), len(runs)))
            for check, runs in findings.stock.items()
        ),
    ]


def row(what: str, found: str, target: str = "-", missed: str | None = None) -> str:
    """Lay out a row; ``missed`` says by how much its target is missed, and is empty where it is met."""
    said = "" if missed is None else f"NOT MET, {missed}" if missed else "met"
    return f"{what:<46} {found:<46} target {target:<5} {said}".rstrip()


def share(count: int, total: int) -> str:
    """Write a share of trials with its exact (Clopper-Pearson) 95% interval."""
    if total == 0:
        return "none tried"
    shown, low, high = (f"{100 * value:.4g}%" for value in (count / total, *proportion(count, total)))
    return f"{count} of {total} = {shown} [{low}, {high}]"


def proportion(count: int, total: int) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson 1934) 95% interval of a share."""
    from scipy.stats import binomtest  # noqa: PLC0415  # the installed package needs it for this alone

    interval = binomtest(count, total).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def _over(value: float, limit: float, unit: str = "", said: str = "over") -> str:
    """Say by how much a value is over a limit; the text is empty where it is not."""
    return f"{value - limit:.3g}{unit} {said}" if value > limit else ""


def _false_alarms(findings: Findings) -> Iterator[str]:
    runs = findings.unchanged
    counts = sum((run.counts for run in runs), Counter[Verdict]())
    alarmed, undecided, total = counts[Verdict.REGRESSED], counts[Verdict.INCONCLUSIVE], counts.total()
    failed = sum(any(verdict.fails for verdict in run.counts) for run in runs)
    missed = _over(100 * undecided / max(1, total), 1, "%")
    yield row("unchanged cases with a false alarm", share(alarmed, total), "none", _over(alarmed, 0))
    yield row("unchanged runs that failed", share(failed, len(runs)), "none", _over(failed, 0))
    yield row("unchanged cases left undecided", share(undecided, total), "1%", missed)


def _power(findings: Findings) -> Iterator[str]:
    """Count the injections that were caught; those of the threshold and more must be, and errors of 1%."""
    for (kind, size), (caught, tried) in findings.caught().items():
        smallest, least = (findings.policy.threshold, 99) if kind == "slowdown" else (0.01, 100)
        goal = (f"{least}%", _over(least, 100 * caught / tried, "%", "short")) if size >= smallest else ()
        yield row(f"{kind} of {100 * size:g}% caught", share(caught, tried), *goal)
    if findings.silent:
        missed = ", ".join(kind for kind, caught in findings.silent.items() if not caught)
        caught = sum(findings.silent.values())
        yield row("silent faults caught", share(caught, len(findings.silent)), "100%", missed)


def _cost(findings: Findings) -> Iterator[str]:
    runs = findings.unchanged
    seconds = [run.seconds for run in runs]
    held = findings.tier == TIMED_TIER and findings.policy.threshold == Policy.threshold
    goal = (f"{MOST_SECONDS}", _over(median(sorted(seconds)), MOST_SECONDS, " s")) if held else ()
    yield row("seconds of measuring a run", _spread(seconds), *goal)
    if processes := [run.process_s for run in runs if run.process_s is not None]:
        yield row("seconds of a run's process", _spread(processes))
    yield row("seconds a case", f"{fmean(seconds) / findings.cases:.2f}")
    yield row("pairs a case", _spread([fmean([result.pairs for result in run.results]) for run in runs]))
    if duties := [run.duty for run in runs if run.duty is not None]:
        wald = wald_ratio(findings)
        said, missed = ("none known", None) if wald is None else (f"{wald:.2f}", _over(wald, 2))
        yield row("times the pairs of Wald's test", said, "2", missed)
        yield row(
            "share of measuring inside timed calls", _spread(duties), "0.85", _over(0.85, fmean(duties), said="short")
        )


def _spread(values: list[float]) -> str:
    return f"{median(sorted(values)):.2f} ({min(values):.2f} to {max(values):.2f})"


def wald_ratio(findings: Findings) -> float | None:
    """The pairs of unchanged cases, divided by those that Wald's test expects on their noise; None if unknown.

    Cases with too few pairs for their signs to tell anything are left out.
    """
    test = findings.policy.test(findings.cases)
    log_ratios: dict[str, list[float]] = defaultdict(list)
    for result in (result for run in findings.unchanged for result in run.results):
        log_ratios[result.id] += [pair.log_ratio for m in result.measurements for pair in m.pairs]
    levels = {"alarm_level": test.alarm_level, "miss_level": test.miss_level}
    expected = {id_: wald_pairs(d, test.threshold, **levels) for id_, d in log_ratios.items() if d}
    known = [id_ for id_, pairs in expected.items() if isfinite(pairs)]
    taken = sum(len(log_ratios[id_]) for id_ in known) / len(findings.unchanged)
    return taken / sum(expected[id_] for id_ in known) if known else None


def document(findings: Findings) -> dict[str, object]:
    """Write the findings as plain values, schema 1; what is not known is null."""
    return {
        "schema": SCHEMA,
        "environment": dict(findings.environment),
        "tier": findings.tier,
        "threshold": findings.policy.threshold,
        "seconds": findings.seconds,
        "unchanged": [
            {
                "seconds": run.seconds,
                "process_seconds": run.process_s,
                "duty": run.duty,
                "verdicts": {v.value: run.counts[v] for v in Verdict if run.counts[v]},
                "ratios": {r.id: r.ratio for r in run.results},
                "pairs": {r.id: r.pairs for r in run.results},
            }
            for run in findings.unchanged
        ],
        "injected": [
            {"kind": kind, "size": size, "caught": caught, "tried": tried, "interval": proportion(caught, tried)}
            for (kind, size), (caught, tried) in findings.caught().items()
        ],
        "missed": [
            {"kind": i.kind, "size": i.size, "case": i.case_id, "verdict": i.result and i.result.verdict}
            for i in findings.injected
            if not i.caught
        ],
        "silent": findings.silent,
        "stock": {check: {"failed": sum(fails), "runs": len(fails)} for check, fails in findings.stock.items()},
    }
