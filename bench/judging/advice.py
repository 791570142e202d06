"""Advice: what to do about a run that was less certain than it could be. Pure."""

from .run import Run
from .statistics import median

BUSY_CORES = 0.5  # other processes, in cores
STOLEN_CORES = 0.1  # taken by the hypervisor, in cores
SLOW_CLOCK = 0.75  # share of the maximum; nvbench discards samples below the same share of the default clock


def advice(run: Run) -> tuple[str, ...]:
    """Return the warnings, one sentence each; the one about the whole run comes first."""
    undecided = run.undecided
    return (*([f"{undecided.said}: {undecided.cure}"] if undecided.count else []), *of_machine(run))


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
