"""Advice: what to do about a verdict, and about a run that was less certain than it could be. Pure."""

from .run import Run
from .statistics import median
from .verdict import Verdict

BUSY_CORES = 0.5  # other processes, in cores
STOLEN_CORES = 0.1  # taken by the hypervisor, in cores
SLOW_CLOCK = 0.75  # share of the maximum; nvbench discards samples below the same share of the default clock

# What to do about a verdict, for those that need something done. No text from outside gets in here.
WHAT_TO_DO = {
    Verdict.ERROR: "read what was raised, and reproduce it with the command that the case carries.",
    Verdict.DRIFTED: "the numbers are wrong, whatever the speed: mend the code.",
    Verdict.REGRESSED: "reproduce it with the command that the case carries. Mend the code or, if the slowdown is "
    "wanted, accept it by a `[[waiver]]` with a bound, a reason and a last day.",
    Verdict.CHANGED: "find out why another backend ran or more memory was held. There is no waiver: if it is wanted, a "
    "maintainer merges over this check.",
    Verdict.MISSING: "restore the case. If its removal is wanted, a maintainer merges over this check.",
    Verdict.INCONCLUSIVE: "give it more time with `--gate-budget`, or a machine with less else to do. Where more than "
    "`--gate-undecided` of the cases are so, the run has compared too little to pass.",
    Verdict.WAIVED: "nothing now; the waiver says until when it is accepted.",
}


def advice(run: Run) -> tuple[str, ...]:
    """Return the warnings, one sentence each; the one about the whole run comes first."""
    return (*_undecided(run), *of_machine(run))


def of_machine(run: Run) -> tuple[str, ...]:
    """Return the warnings about the machine and the measuring."""
    detectable = sorted(case.mde for case in run.cases if case.mde is not None)
    none = "no case took enough pairs to see a slowdown"
    effect = f"the median case could see a slowdown of {median(detectable):.1%}" if detectable else none
    warnings = list(run.notes)
    load = run.load
    if load is not None and load.other_cores > BUSY_CORES:
        warnings.append(
            f"other processes kept {load.other_cores:.1f} of {load.cores} cores busy, and {effect}: "
            "stop them, or raise --gate-budget"
        )
    if load is not None and load.stolen_cores > STOLEN_CORES:
        warnings.append(
            f"the hypervisor took {load.stolen_cores:.1f} of {load.cores} cores away, and {effect}: "
            "use another runner, or raise --gate-budget"
        )
    if load is not None and load.clock_share is not None and load.clock_share < SLOW_CLOCK:
        warnings.append(
            f"the clock ran at {load.clock_share:.0%} of its maximum, and {effect}: let the machine cool, or plug it in"
        )
    if run.absent:
        warnings.append(
            f"{len(run.absent)} cases of the baseline, such as {run.absent[0]}, are for a device that is not here, and "
            "nothing is known of them: run the gate on such a machine too"
        )
    return tuple(warnings)


def _undecided(run: Run) -> tuple[str, ...]:
    undecided = run.undecided
    return (f"{undecided.said}: {undecided.cure}",) if undecided.count else ()
