"""Facts of a call that need no clock, where the tests have loaded torch: ops, memory, launches, compilation."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..plain.collecting import no_garbage_collection
from ..plain.execution import Calls, Fingerprint
from ..plain.printable import first_line

if TYPE_CHECKING:
    from ..observing.compilation import Counters


def before_first_call() -> "Counters | None":
    """Return what torch has compiled so far; None where it is not loaded."""
    if sys.modules.get("torch") is None:
        return None
    from ..observing.compilation import counters  # noqa: PLC0415  # it needs torch, which is there

    return counters()


def of_call(once: Callable[[], Any], before: "Counters | None") -> tuple[Fingerprint | None, str | None]:
    """Call once more, watched; returns what that executed, or why it could not be watched.

    ``before`` is what had been compiled before the first call. A call without tensors has no facts.
    """
    if before is None:
        return None, None
    from ..observing.compilation import counters  # noqa: PLC0415  # it needs torch, which is there

    try:
        seen = _observed(once, counters().since(before))
    except (Exception, SystemExit) as error:  # noqa: BLE001  # of the test's own code
        return None, f"{type(error).__name__}: {first_line(str(error))}"
    return (seen if seen.ops or seen.compilation else None), None


def _observed(once: Callable[[], Any], compiled: "Counters") -> Fingerprint:
    import torch  # noqa: PLC0415  # it is loaded

    from ..observing import leaks  # noqa: PLC0415
    from ..observing.fingerprint import fingerprint  # noqa: PLC0415
    from ..observing.op_trace import OpTrace  # noqa: PLC0415
    from ..observing.profiling import launches  # noqa: PLC0415
    from ..observing.states import watching  # noqa: PLC0415

    on_gpu = torch.cuda.is_initialized()
    recorder = OpTrace()
    with watching() as left, no_garbage_collection():
        seen = fingerprint(once, device="cuda" if on_gpu else "cpu", compiled=compiled, recorder=recorder)
        garbage = leaks.garbage(recorder)
    kept, cached = None, None
    if recorder.live_bytes:
        kept, cached = leaks.kept(once, leaks.counting(on_gpu=on_gpu))
    calls = Calls(kept_bytes=kept, cached_bytes=cached, garbage_bytes=garbage, left_changed=tuple(left))
    return replace(seen, calls=calls, launches=launches(once) if on_gpu else None)
