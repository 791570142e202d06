"""Whether code compiles anew for each new length, which in use ends at torch's limit of recompilations."""

from weakref import WeakKeyDictionary

import torch

from ..sides.view import View
from ..sides.workload import Call, Workload
from .compilation import counters
from .contents import longer, resized

TOKENS = (16, 32)  # more than the case has; the first may be compiled for all lengths from then on

_looked_at: WeakKeyDictionary[View, set[str]] = WeakKeyDictionary()  # subjects, by their side's view


def compiles_each_length(call: Call, workload: Workload) -> bool | None:
    """Call what has been compiled at two more lengths, and say whether the second is compiled as well.

    Only traced: the compiler's backend is left out, and what it has compiled stays. It takes half a second, so it is
    done once for each subject of a side. None where it was done, or where this torch or the subject cannot.
    """
    subjects = _looked_at.setdefault(call.view, set())
    if workload.case.subject in subjects:
        return None
    subjects.add(workload.case.subject)
    try:
        with torch.compiler.set_stance(force_backend="eager"):
            for tokens in TOKENS:
                before = counters()
                with resized(longer(workload, tokens), workload):
                    call.forward()
        return counters().since(before).any
    except Exception:  # noqa: BLE001  # a torch without such a stance, or a kernel with lengths of its own
        return None
