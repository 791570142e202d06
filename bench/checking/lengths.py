"""Whether code compiles anew for each new length; in use, that ends at torch's limit of recompilations."""

import torch

from ..sides.workload import Call, Workload
from .compilation import counters
from .contents import longer, resized

TOKENS = (16, 32)  # more than the case has; the first may be compiled for all lengths from then on


def compiles_each_length(call: Call, workload: Workload) -> bool | None:
    """Call compiled code at two more lengths, and say whether the second length makes it compile as well.

    The calls are only traced, without the compiler's backend, and leave the compiled code as it is. That takes half a
    second, so it is done once for each subject of a side. None if it was done before, or if this torch or the subject
    cannot do it.
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
