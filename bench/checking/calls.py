"""Checks that a call does its work: makes several calls, on the case's inputs and on others, and compares them.

All calls are given the same tensors, whose contents change in between. So a side that remembers a result by a tensor's
address, shape, identity or version returns the result of other contents. In order:

1. a call on other contents;
2. one on the case's own contents, whose results are held to the oracle;
3. one for the fingerprint, with fresh memory filled with NaN;
4. where a call uses fresh memory: one on the case's own contents, with fresh memory filled with a large number;
5. one on the other contents again, with fresh memory filled likewise.

Where two calls should agree and do not, more calls find out why.
"""

import gc
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..plain.evidence import TensorError
from ..plain.execution import Calls, Fingerprint
from ..sides.workload import Call, Workload
from . import leaks
from .alike import CAPS, Results, distance, same_bits
from .compilation import Counters, counters
from .contents import OtherContents, first_item, given, resized
from .fingerprint import fingerprint
from .lengths import compiles_each_length
from .op_trace import OpTrace
from .poison import LARGE, NAN, ZERO, Filling, Poison, can_run_eagerly, eagerly
from .profiling import launches

TOLERANCE = 2.0  # results that differ by more than this many caps of the error rule are of different inputs
CHANCES = 8  # further calls of a base that has repeated bit for bit, before a head that does not is blamed
NOISE = 4.0  # where calls on the same inputs differ, results may differ by so many times that


def execute(call: Call, workload: Workload) -> tuple[dict[str, Tensor], Fingerprint]:
    """Do the work for its results, which compiles what is to be compiled, for its fingerprint, and to compare calls."""
    before = counters()
    others = OtherContents(workload)
    with others:
        earlier = _Kept.of(call)
        compiled = counters().since(before)
    own = _Kept.of(call)
    print_, calls = _Observer(call, workload, others, own.copies, earlier.copies, compiled).observe()
    inputs = {t.untyped_storage().data_ptr() for t in given(workload) if t.numel()}
    aliased = own.within(inputs)
    overwritten = {*_unlike(own.copies, own.given), *_unlike(earlier.copies, earlier.given)} - {*aliased}
    calls = replace(calls, aliased=aliased, overwritten=_ordered(own.copies, overwritten))
    given_to_gpu = launches(call) if workload.case.device == "cuda" else None
    return own.copies, replace(print_, calls=calls, launches=given_to_gpu)


@dataclass(frozen=True)
class _Kept:
    """The results of a call as the side returned them, and a copy that was made at once."""

    given: Results
    copies: dict[str, Tensor]

    @classmethod
    def of(cls, call: Call) -> "_Kept":
        results = call.results()
        return cls(results, {name: t.detach().clone() for name, t in results.items()})

    def within(self, storages: set[int]) -> tuple[str, ...]:
        """Return the results that lie in some storages."""
        return tuple(name for name, t in self.given.items() if t.numel() and t.untyped_storage().data_ptr() in storages)


@dataclass(frozen=True)
class _Observer:
    """Makes the calls after the first two, which gave ``earlier``, on the other contents, and ``own``."""

    call: Call
    workload: Workload
    others: OtherContents
    own: Results
    earlier: Results
    first: Counters  # before the first call to after it
    recorder: OpTrace = field(default_factory=OpTrace)  # watches the call for the fingerprint

    def observe(self) -> tuple[Fingerprint, Calls]:
        poison = Poison(NAN)
        print_, unlike = self._fingerprint(poison)
        kept, cached = leaks.kept(self.call, self._grown()) if self._keeps() else (None, None)
        compiled = self.first.any
        # By chance, fresh memory may have held in earlier calls what one filling holds, but not what both hold.
        suspect = unlike or compiled or (poison.filled and _unlike(self.own, self._attempt(LARGE)))
        unwritten = self._unwritten() if suspect else set[str]()
        noise: dict[str, float] = {}
        if unlike:
            plain = self.call.results()
            noise = {name: distance(plain[name], self.own[name]) for name in _unlike(self.own, plain)}
        unrepeated, stale = {*noise}, set[str]()
        with self.others:
            unlike = _unlike(self.earlier, self._attempt(LARGE if poison.filled else None))
            if unlike:
                unwritten |= self._unwritten()
                plain = self.call.results()
                for name in _unlike(self.earlier, plain):
                    apart = _apart(name, plain[name], self.earlier[name], noise.get(name, 0.0))
                    (stale if apart else unrepeated).add(name)
        calls = Calls(
            stale=_ordered(self.own, stale - unwritten),
            unwritten=_ordered(self.own, unwritten),
            unrepeated=_ordered(self.own, unrepeated - unwritten),
            kept_bytes=kept,
            cached_bytes=cached,
            filled=not compiled or can_run_eagerly(),
            compiles_each_length=compiles_each_length(self.call, self.workload) if compiled else None,
            batch_invariant=None if compiled or unrepeated else self._batch_invariant(),
        )
        return print_, calls

    def _fingerprint(self, poison: Poison) -> tuple[Fingerprint, tuple[str, ...]]:
        """Take the fingerprint; returns which results of that call are unlike the ones before."""
        outs: list[Tensor] = []
        gradients: list[tuple[Tensor, ...]] = []

        def forward() -> Tensor:
            outs.append(self.call.forward())
            return outs[-1]

        def backward(out: Tensor) -> tuple[Tensor, ...]:
            gradients.append(self.call.differentiate(out))
            return gradients[-1]

        def take(recorder: OpTrace) -> Fingerprint:
            outs.clear()
            gradients.clear()
            both = backward if self.call.backward else None
            return fingerprint(forward, both, device=self._device, compiled=self.first, recorder=recorder)

        failed = False
        try:
            with nullcontext() if self.first.any else poison:
                print_ = take(self.recorder)
        except Exception:  # noqa: BLE001  # it raises again, unless it was for what the memory held
            failed, print_ = True, take(OpTrace())
        again = {"out": outs[0].detach()}
        if gradients:
            again |= {f"d{name}": g for name, g in zip(self.call.names, gradients[0], strict=True)}
        return print_, tuple(self.own) if failed else _unlike(self.own, again)

    def _unwritten(self) -> set[str]:
        """Name the results that depend on what fresh memory holds, beyond what they differ by in any case."""
        if self.first.any and not can_run_eagerly():
            return set()
        with eagerly() if self.first.any else nullcontext():
            zeroed, again = self._attempt(ZERO), self._attempt(ZERO)
            if zeroed is None or again is None:
                return set()
            noise = {name: distance(again[name], t) for name, t in zeroed.items()}
            found: set[str] = set()
            for filled in map(self._attempt, (NAN, LARGE)):
                for name in _unlike(zeroed, filled):
                    if filled is None or noise[name] == 0 or _apart(name, filled[name], zeroed[name], noise[name]):
                        found.add(name)
            return found

    def _attempt(self, filling: Filling | None) -> Results | None:
        """Do the work with fresh memory filled; None if it raises because of that."""
        if filling is None:
            return self.call.results()
        try:
            with Poison(filling):
                return self.call.results()
        except Exception:  # noqa: BLE001  # the caller judges it
            return None

    @property
    def _device(self) -> str:
        return self.workload.case.device

    def _keeps(self) -> bool:
        """Whether a call left bytes alive."""
        if self._device == "cuda" or self.first.any:
            return self._grown()(self.call) > 0
        if self.recorder.live_bytes:
            gc.collect()
        return self.recorder.live_bytes > 0

    def _grown(self) -> leaks.Grown:
        if self._device == "cuda":
            return leaks.by_device
        return leaks.by_profile if self.first.any else leaks.by_tensors()

    def _batch_invariant(self) -> bool | None:
        """Say whether the first item gets the same output alone; None if it is alone anyway, or cannot be."""
        if self.workload.case.shape.batch == 1:
            return None
        try:
            with resized(first_item(self.workload), self.workload):
                out = self.call.forward().detach()
        except Exception:  # noqa: BLE001  # nobody asked it to take another size
            return None
        return same_bits(out, self.own["out"][:1]) if out.shape[0] == 1 else None


def unrepeated(again: Callable[[], Results], results: Results) -> tuple[str, ...]:
    """Repeat the call, and name the results that are not the same every time, bit for bit."""
    for _ in range(CHANCES):
        if names := _unlike(results, again()):
            return names
    return ()


def held_to_calls(errors: tuple[TensorError, ...], calls: Calls | None) -> tuple[TensorError, ...]:
    """Add to the complaints about each result, as the first of them, what its calls have shown."""
    if calls is None:
        return errors
    said = {
        **{name: f"{name}: belongs to earlier inputs" for name in calls.stale},
        **{name: f"{name}: depends on memory that nobody wrote" for name in calls.unwritten},
    }
    return tuple(
        replace(error, complaints=(said[error.name], *error.complaints)) if error.name in said else error
        for error in errors
    )


def _unlike(expected: Results, seen: Results | None) -> tuple[str, ...]:
    """Name the results that are not the same, bit for bit."""
    return tuple(name for name, t in expected.items() if seen is None or not same_bits(seen[name].detach(), t))


def _apart(name: str, one: Tensor, another: Tensor, noise: float) -> bool:
    """Whether results differ by more than rounding and the known difference between calls explain."""
    cap = CAPS.get(another.dtype, CAPS[torch.float32])[0 if name == "out" else 1]
    size = float(another.abs().nan_to_num(nan=0.0, posinf=0.0).max()) if another.numel() else 0.0
    return distance(one, another) > TOLERANCE * cap * max(1.0, size) + NOISE * noise


def _ordered(results: Results, names: Iterable[str]) -> tuple[str, ...]:
    chosen = {*names}
    return tuple(name for name in results if name in chosen)
