"""What code does at lengths that it has not seen: it compiles anew, takes longer, or is wrong once."""

import time
from contextlib import suppress

import torch
from torch import Tensor

from ..observing.compilation import counters
from .contents import longer, resized
from .workload import Call, Workload

TOKENS = (16, 32)  # more than the case has; the first may be compiled for all lengths from then on
NEW_TOKENS = (5, 11, 23)


def compiles_each_length(call: Call, workload: Workload) -> bool | None:
    """Call compiled code at two more lengths, and say whether the second length makes it compile as well.

    The calls are only traced, without the compiler's backend, and leave the compiled code as it is. That takes half a
    second, so it is done once for each subject of a side. None if it was done before, or if this torch or the subject
    cannot do it. In use, compiling for each length ends at torch's limit of recompilations.
    """
    if workload.case.subject in call.tried_longer:
        return None
    call.tried_longer.add(workload.case.subject)
    try:
        with torch.compiler.set_stance(force_backend="eager"):
            for tokens in TOKENS:
                before = counters()
                with resized(longer(workload, tokens), workload):
                    call.forward()
        return counters().since(before).any
    except Exception:  # noqa: BLE001  # a torch without such a stance, or a kernel with lengths of its own
        return None


def at_new_lengths(call: Call, workload: Workload) -> list[tuple[float, Tensor, Tensor]]:
    """Make two calls of some new lengths, forward; returns the seconds that the first took longer, and both outputs.

    The list is shorter where the call does not serve such a length.
    """
    made: list[tuple[float, Tensor, Tensor]] = []
    for tokens in NEW_TOKENS:
        with suppress(Exception), resized(longer(workload, tokens), workload):  # a kernel may have lengths of its own
            times_s = [time.perf_counter()]
            outs: list[Tensor] = []
            for _ in range(2):
                outs.append(call.forward().detach().clone())
                times_s.append(time.perf_counter())
            made.append((max(0.0, 2 * times_s[1] - times_s[0] - times_s[2]), outs[0], outs[1]))
    return made
