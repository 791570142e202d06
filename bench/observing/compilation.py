"""What torch.compile does while a call runs, from its own counters; nothing is loaded where nothing is compiled."""

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Counters:
    """Totals of this process so far; the difference of two says what happened between."""

    frames: int = 0  # tried to compile; not counted where a graph break is an error (fullgraph)
    graphs: int = 0
    kernels: int = 0
    breaks: dict[str, int] = field(default_factory=dict)  # reason -> how often

    @property
    def any(self) -> bool:
        """Whether anything was compiled, or tried."""
        return self.frames > 0 or self.graphs > 0

    def since(self, before: "Counters") -> "Counters":
        return Counters(
            self.frames - before.frames,
            self.graphs - before.graphs,
            self.kernels - before.kernels,
            dict(Counter(self.breaks) - Counter(before.breaks)),
        )


def counters() -> Counters:
    """Read the counters of TorchDynamo and Inductor (``torch._dynamo.utils.counters``, ``torch._inductor.metrics``)."""
    dynamo, inductor = _loaded("torch._dynamo.utils"), _loaded("torch._inductor.metrics")
    if dynamo is None:
        return Counters()
    counts = dynamo.counters
    breaks = {str(reason).partition("\n")[0]: int(n) for reason, n in counts.get("graph_break", {}).items()}
    return Counters(
        counts.get("frames", {}).get("total", 0),
        counts.get("stats", {}).get("unique_graphs", 0),
        0 if inductor is None else inductor.generated_kernel_count,
        breaks,
    )


def forget() -> None:
    """Drop all compiled code, so that what the next call compiles does not depend on the calls before it.

    Without this, a run of many cases would reach the number of versions of a function at which torch.compile gives up.
    """
    dynamo = _loaded("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()


def _loaded(module: str) -> Any:
    return sys.modules.get(module)
