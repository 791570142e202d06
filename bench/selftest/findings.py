"""What a self-test found: values, the table against the targets, and JSON."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, log
from pathlib import Path
from statistics import fmean

from ..judging.policy import Policy
from ..judging.statistics import median
from ..judging.verdict import CaseResult, Verdict
from ..plain.evidence import Load
from ..plain.files import write_atomically
from ..plain.strict_json import dumps
from . import counting
from .counting import over, proportion, row
from .simulation import wald_pairs
from .trials import Trial

SCHEMA = 1
TIMED_TIER, MOST_SECONDS = "pr", 90  # of measuring in a run, at the default threshold


@dataclass(frozen=True)
class UnchangedRun:
    """One run of the gate on unchanged code."""

    results: tuple[CaseResult, ...]

    def count(self, verdict: Verdict) -> int:
        return sum(result.verdict is verdict for result in self.results)

    @property
    def seconds(self) -> float:
        return sum(result.seconds for result in self.results)

    @property
    def duty(self) -> float:
        """The share of the measuring time that is inside timed calls."""
        measurements = [m for result in self.results for m in result.measurements]
        return sum(m.timed_seconds for m in measurements) / sum(m.seconds for m in measurements)


@dataclass(frozen=True)
class Injection:
    """One known change of one case, and whether the gate caught it; ``result`` where it was timed."""

    kind: str
    size: float
    case_id: str
    caught: bool
    result: CaseResult | None = None


@dataclass(frozen=True)
class Findings:
    """All that a self-test found; ``stock`` says for each stock check, run by run, whether it failed unchanged code."""

    environment: Mapping[str, object]
    policy: Policy
    tier: str
    cases: int
    unchanged: list[UnchangedRun] = field(default_factory=list)
    injected: list[Injection] = field(default_factory=list)
    stock: dict[str, list[bool]] = field(default_factory=dict)
    silent: list[Trial] = field(default_factory=list)
    seconds: float = 0.0
    load: Load | None = None

    def caught(self) -> dict[tuple[str, float], tuple[int, int]]:
        """Count, for each kind and size of injection, how many were caught and how many tried."""
        counts: dict[tuple[str, float], list[bool]] = defaultdict(list)
        for injection in self.injected:
            counts[injection.kind, injection.size].append(injection.caught)
        return {key: (sum(values), len(values)) for key, values in counts.items()}


def report(findings: Findings, as_json: Path | None) -> None:
    """Print the table, and write the JSON if that was asked for."""
    for line in table(findings):
        print(line)
    if as_json is not None:
        write_atomically(as_json, dumps(document(findings), indent=2))


def table(findings: Findings) -> list[str]:
    """Write the findings, each beside its target and whether it is met."""
    runs = findings.unchanged
    threshold = findings.policy.threshold
    lines = [
        f"self-test: tier {findings.tier}, {findings.cases} cases, threshold {100 * threshold:g}%, "
        f"{findings.seconds:.0f} s; " + ", ".join(f"{k} {v}" for k, v in findings.environment.items()),
        "",
        *counting.false_alarms([run.results for run in runs]),
        *counting.power(findings.caught(), threshold),
    ]
    if findings.silent:
        missed = [trial.fault.kind for trial in findings.silent if not trial.caught]
        caught = len(findings.silent) - len(missed)
        lines.append(
            row("silent faults caught", counting.share(caught, len(findings.silent)), "100%", ", ".join(missed))
        )
    seconds, duty = [run.seconds for run in runs], [run.duty for run in runs]
    typical, wald = median(sorted(seconds)), wald_ratio(findings)
    timed = findings.tier == TIMED_TIER and threshold == Policy.threshold
    lines += [
        row(
            "seconds of measuring a run",
            _spread(seconds),
            *((f"{MOST_SECONDS}", over(typical, MOST_SECONDS, " s")) if timed else ()),
        ),
        row("seconds a case", f"{fmean(seconds) / findings.cases:.2f}"),
        row("pairs a case", _spread([fmean([r.pairs for r in run.results]) for run in runs])),
        row(
            "times the pairs of Wald's test",
            "none known" if wald is None else f"{wald:.2f}",
            "2",
            None if wald is None else over(wald, 2),
        ),
        row("share of it inside timed calls", _spread(duty), "0.85", over(0.85, fmean(duty), said="short")),
    ]
    return [*lines, *counting.stock(findings.stock)]


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
    """Write the findings as plain values, schema 1."""
    return {
        "schema": SCHEMA,
        "environment": dict(findings.environment),
        "tier": findings.tier,
        "threshold": findings.policy.threshold,
        "seconds": findings.seconds,
        "unchanged": [
            {
                "seconds": run.seconds,
                "duty": run.duty,
                "verdicts": {v.value: run.count(v) for v in Verdict if run.count(v)},
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
            {
                "kind": i.kind,
                "size": i.size,
                "case": i.case_id,
                "verdict": None if i.result is None else i.result.verdict,
            }
            for i in findings.injected
            if not i.caught
        ],
        "stock": {check: {"failed": sum(fails), "runs": len(fails)} for check, fails in findings.stock.items()},
    }


def noise(findings: Findings) -> dict[str, float]:
    """The scaled median absolute deviation of one pair's log-ratio, by case, over all unchanged runs."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for result in (r for run in findings.unchanged for r in run.results if r.ratio is not None):
        centre = log(result.ratio or 1.0)
        ratios[result.id] += [abs(p.log_ratio - centre) for m in result.measurements for p in m.pairs]
    return {case: 1.4826 * median(sorted(values)) for case, values in ratios.items()}
