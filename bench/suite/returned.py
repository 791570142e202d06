"""The results of a call as a side returned them, and copies that were made at once."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..observing.tolerance import Results, unlike
from ..twins.party import Misbehaved
from .workload import Call


@dataclass(frozen=True)
class Returned:
    """What one call returned, its copies, and the ``seconds`` that both took."""

    given: Results
    copies: dict[str, Tensor]
    seconds: float

    @classmethod
    def by(cls, call: Call, device: str) -> "Returned":
        """Make the call.

        Raises:
            Misbehaved: a result is no plain tensor on the device.

        """
        start_s = time.perf_counter()
        returned = call.returned()
        for name, result in returned.items():
            if (unfit := _unfit(result, device)) is not None:
                raise Misbehaved(f"returns {name} as {unfit}: return a plain tensor on {device}")
        results = {name: t.detach() for name, t in returned.items()}
        copies = {name: t.clone() for name, t in results.items()}
        return cls(results, copies, time.perf_counter() - start_s)

    def within(self, storages: set[int]) -> tuple[str, ...]:
        """Name the results that lie in some storages."""
        return tuple(name for name, t in self.given.items() if t.numel() and t.untyped_storage().data_ptr() in storages)

    @property
    def overwritten(self) -> tuple[str, ...]:
        """The results that are not what they were when the call returned them."""
        return unlike(self.copies, self.given)


def _unfit(result: Any, device: str) -> str | None:
    """Say what a result is, if it is no plain tensor: it may compute when it is read, which no clock would see."""
    if type(result) not in (Tensor, torch.nn.Parameter):
        return f"a {type(result).__qualname__}"
    if result.layout is not torch.strided:
        return f"a tensor of layout {result.layout}"
    if result.device.type != device:
        return f"a tensor on {result.device}"
    if result.requires_grad and not torch.is_grad_enabled():
        return "a tensor that requires a gradient, under torch.no_grad()"
    return "a view that negates or conjugates when it is read" if result.is_neg() or result.is_conj() else None
