"""Joins the results of all shards into one run. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..plain.errors import CannotDo
from ..plain.evidence import Plain, Shard
from .advice import of_machine
from .run import Run
from .verdict import CaseResult, severity


def merge(runs: Mapping[str, Run]) -> Run:
    """Join the shards of one run, given by file name; the ceilings are left out, since they differ by machine.

    Where a shard is given more than once, the worst verdict of each case counts, so that nobody can repeat a shard
    until it passes.

    Raises:
        CannotDo: a shard is missing, two of them hold the same case, they hold other cases than the run had, or
            they judged something else: another base, head, policy, tier, number of threads or torch.

    """
    first, *_ = runs
    shards = {name: _shard(name, run) for name, run in runs.items()}
    for name, run in runs.items():
        for what, value in _question(run, shards[name]).items():
            if value != _question(runs[first], shards[first])[what]:
                raise CannotDo(f"{first} and {name} differ in their {what}: merge the shards of one run only")
    by_index: dict[int, dict[str, Run]] = defaultdict(dict)
    for name, run in runs.items():
        by_index[shards[name].index][name] = run
    count = shards[first].count
    if missing := [index for index in range(1, count + 1) if index not in by_index]:
        asked = f"shard{'s' if len(missing) > 1 else ''} {' and '.join(f'{index}/{count}' for index in missing)}"
        raise CannotDo(f"{len(missing)} of {count} shards missing: run {asked} again and name the file too")
    cases = [case for index in range(1, count + 1) for case in _joined(by_index[index])]
    _refuse_gaps(cases, shards[first])
    return Run(
        runs[first].base,
        runs[first].head,
        _common([run.environment for run in runs.values()]),
        runs[first].policy,
        tuple(cases),
        shard=replace(shards[first], index=1, count=1),
        notes=tuple(note for index in range(1, count + 1) for note in _notes(index, count, by_index[index])),
        absent=tuple(dict.fromkeys(case_id for run in runs.values() for case_id in run.absent)),
        options=runs[first].options,
    )


def _shard(name: str, run: Run) -> Shard:
    if run.shard is None:
        raise CannotDo(f"{name} does not say which shard it is: write it with --gate-json=PATH")
    return run.shard


def _question(run: Run, shard: Shard) -> dict[str, object]:
    """The parts of a run that are equal in all its shards, by name."""
    return {
        "number of shards": shard.count,
        "tier": shard.tier,
        "base": {name: value for name, value in run.base.items() if name != "origin"},
        "head": {name: value for name, value in run.head.items() if name != "origin"},
        "policy": run.policy,
        "number of threads": run.environment.get("threads"),
        "version of torch": run.environment.get("torch"),
        "list of cases": shard.cases_sha256,
    }


def _joined(repeats: Mapping[str, Run]) -> list[CaseResult]:
    """Return the cases of one shard: the worst result of each, with a note where its verdicts differ."""
    rows = {name: {case.id: case for case in run.cases} for name, run in repeats.items()}
    first, *rest = rows
    for name in rest:
        if rows[name].keys() != rows[first].keys():
            raise CannotDo(f"{first} and {name} are the same shard with different cases: keep the right one")
    joined = []
    for id_ in rows[first]:
        worst = min((cases[id_] for cases in rows.values()), key=severity)
        if any(cases[id_].verdict is not worst.verdict for cases in rows.values()):
            seen = ", ".join(f"{cases[id_].verdict} in {name}" for name, cases in rows.items())
            worst = replace(worst, reasons=(*worst.reasons, f"its shard ran {len(rows)} times: {seen}"))
        joined.append(worst)
    return joined


def _refuse_gaps(cases: Sequence[CaseResult], shard: Shard) -> None:
    ids = [case.id for case in cases]
    if repeated := sorted({id_ for id_ in ids if ids.count(id_) > 1}):
        raise CannotDo(f"two shards hold {repeated[0]}: split one list of cases, with the same repository in each")
    if Shard.of(shard.index, shard.count, shard.tier, ids) != shard:
        raise CannotDo(
            f"the shards hold {len(ids)} cases and not the {shard.cases} that were split: "
            "run every shard to its end, with the same options"
        )


def _notes(index: int, count: int, repeats: Mapping[str, Run]) -> list[str]:
    """The warnings of one shard, and a note if it was run more than once with different results."""
    notes = [f"shard {index}/{count}: {warning}" for run in repeats.values() for warning in of_machine(run)]
    runs = list(repeats.values())
    notes += [f"shard {index}/{count}: {run.undecided.said}: {run.load}" for run in runs if run.undecided.too_many]
    if any(run != runs[0] for run in runs):
        names = ", ".join(repeats)
        notes.append(f"shard {index}/{count} ran {len(runs)} times ({names}): the worst verdict of each case counts")
    return list(dict.fromkeys(notes))


def _common(environments: Sequence[Mapping[str, Plain]]) -> dict[str, Plain]:
    """Join the environments; where they differ, list every value."""
    names = dict.fromkeys(name for environment in environments for name in environment)
    merged: dict[str, Plain] = {}
    for name in names:
        values = list(dict.fromkeys(environment.get(name) for environment in environments))
        merged[name] = values[0] if len(values) == 1 else ", ".join(str(value) for value in values)
    return merged
