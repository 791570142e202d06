"""What a self-test found: values, the table against the targets, and JSON."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from statistics import fmean

from .evidence import Load
from .files import write_atomically
from .replay_report import proportion, share
from .statistics import median
from .verdict import CaseResult, Policy, Verdict

SCHEMA = 1


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
    """All that a self-test found; ``stock`` holds for each stock check whether it failed unchanged code, run by run."""

    environment: Mapping[str, object]
    policy: Policy
    tier: str
    cases: int
    unchanged: list[UnchangedRun] = field(default_factory=list)
    injected: list[Injection] = field(default_factory=list)
    stock: dict[str, list[bool]] = field(default_factory=dict)
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
        write_atomically(as_json, json.dumps(document(findings), indent=2) + "\n")


def table(findings: Findings) -> list[str]:
    """Write the findings, each beside its target and whether it is met."""
    runs = findings.unchanged
    results = [result for run in runs for result in run.results]
    alarmed = sum(run.count(Verdict.REGRESSED) > 0 for run in runs)
    failed = sum(any(findings.policy.fails(r.verdict) for r in run.results) for run in runs)
    undecided = sum(result.verdict is Verdict.INCONCLUSIVE for result in results)
    threshold = findings.policy.threshold
    lines = [
        f"self-test: tier {findings.tier}, {findings.cases} cases, threshold {100 * threshold:g}%, "
        f"{findings.seconds:.0f} s; " + ", ".join(f"{k} {v}" for k, v in findings.environment.items()),
        "",
        _line("unchanged runs with a false alarm", share(alarmed, len(runs)), "none", met=alarmed == 0),
        _line("unchanged runs that failed at all", share(failed, len(runs)), "none", met=failed == 0),
        _line(
            "unchanged cases left undecided", share(undecided, len(results)), "1%", met=undecided <= len(results) / 100
        ),
    ]
    for (kind, size), (caught, tried) in findings.caught().items():
        if kind == "slowdown":
            target = "99%" if size >= threshold else "-"
            met = caught >= 0.99 * tried if size >= threshold else None
        else:
            target, met = ("100%", caught == tried) if size >= 0.01 else ("-", None)
        lines.append(_line(f"{kind} of {100 * size:g}% caught", share(caught, tried), target, met=met))
    lines += [
        _line("seconds of measuring a run", _spread([run.seconds for run in runs]), "-"),
        _line("seconds a case", f"{fmean([run.seconds for run in runs]) / findings.cases:.2f}", "-"),
        _line("pairs a case", _spread([fmean([r.pairs for r in run.results]) for run in runs]), "-"),
        _line(
            "share of it inside timed calls",
            _spread([run.duty for run in runs]),
            "0.85",
            met=fmean([run.duty for run in runs]) >= 0.85,
        ),
    ]
    for check, fails in findings.stock.items():
        lines.append(_line(f"stock gate {check} fails unchanged code", share(sum(fails), len(fails)), "-"))
    return lines


def _line(what: str, found: str, target: str, *, met: bool | None = None) -> str:
    said = {True: "met", False: "NOT MET", None: ""}[met]
    return f"{what:<46} {found:<46} target {target:<5} {said}".rstrip()


def _spread(values: list[float]) -> str:
    return f"{median(sorted(values)):.2f} ({min(values):.2f} to {max(values):.2f})"


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
