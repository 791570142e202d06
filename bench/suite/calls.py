"""Checks that a call does its work: makes several calls, on the case's inputs and on others, and compares them.

All calls are given the same tensors, whose contents change in between. So a side that remembers a result by a tensor's
address, shape, identity or version returns the result of other contents. In order:

1. a call on other contents;
2. one on the case's own contents, whose results are held to the oracle;
3. one for the fingerprint, with fresh memory filled with NaN;
4. where a call uses fresh memory: one on the case's own contents, with fresh memory filled with a large number;
5. one on the other contents again, with fresh memory filled likewise, in inference mode and as a module that is
   evaluated, or with a second backward pass through the graph.

Of a case whose calls are not watched, there are the second and the third. Where two calls should agree and do not, more
calls find out why.

Over 300 lines: what one call shows decides which call is made next.
"""

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..observing import leaks, states
from ..observing.compilation import Counters, counters
from ..observing.fingerprint import fingerprint
from ..observing.op_trace import OpTrace
from ..observing.poison import LARGE, NAN, ZERO, Filling, Poison, can_run_eagerly, eagerly
from ..observing.profiling import launches
from ..observing.tolerance import CAPS, Results, distance, same_bits
from ..plain.collecting import no_garbage_collection
from ..plain.evidence import TensorError
from ..plain.execution import Calls, Fingerprint
from .contents import OtherContents, first_item, given, resized
from .lengths import at_new_lengths, compiles_each_length
from .workload import Call, Workload

TOLERANCE = 2.0  # results that differ by more than this many caps of the error rule are of different inputs
CHANCES = 8  # further calls of a base that has repeated bit for bit, before a head that does not is blamed
NOISE = 4.0  # where calls on the same inputs differ, results may differ by so many times that
SLOW_FIRST_S = 0.02  # a first call that takes so much longer than the second is tried at other lengths, too


class NotPlain(Exception):
    """A call returned something that may compute when it is read, or lies elsewhere; the message says what."""


def execute(call: Call, workload: Workload) -> tuple[dict[str, Tensor], Fingerprint]:
    """Do the work for its results, which compiles what is to be compiled, for its fingerprint, and to compare calls.

    Raises:
        NotPlain: a result is no plain tensor on the case's device.

    """
    device, before = workload.case.device, counters()
    others = OtherContents(workload) if workload.case.watched else None
    with nullcontext() if others is None else others, states.watching() as left:
        first = _Kept.of(call, device)
    compiled = counters().since(before)
    own = first if others is None else _Kept.of(call, device)
    observer = _Observer(call, workload, own, compiled, None if others is None else _Before(others, first))
    print_, calls = observer.observe()
    inputs = {t.untyped_storage().data_ptr() for t in given(workload) if t.numel()}
    aliased = own.within(inputs)
    overwritten = {name for kept in (own, first) for name in _unlike(kept.copies, kept.given)}
    out = own.given["out"]
    calls = replace(
        calls,
        aliased=aliased,
        overwritten=_ordered(own.copies, overwritten - {*aliased}),
        left_changed=tuple(left),
        strides=tuple(stride if size > 1 else 0 for stride, size in zip(out.stride(), out.shape, strict=True)),
        result_bytes=None if "out" in aliased else out.untyped_storage().nbytes(),
    )
    given_to_gpu = launches(call) if device == "cuda" else None
    return own.copies, replace(print_, calls=calls, launches=given_to_gpu)


@dataclass(frozen=True)
class _Kept:
    """The results of a call as the side returned them, and a copy that was made at once; ``seconds`` of both."""

    given: Results
    copies: dict[str, Tensor]
    seconds: float

    @classmethod
    def of(cls, call: Call, device: str) -> "_Kept":
        start_s = time.perf_counter()
        returned = call.returned()
        for name, result in returned.items():
            if (unfit := _unfit(result, device)) is not None:
                raise NotPlain(f"returns {name} as {unfit}: return a plain tensor on {device}")
        results = {name: t.detach() for name, t in returned.items()}
        copies = {name: t.clone() for name, t in results.items()}
        return cls(results, copies, time.perf_counter() - start_s)

    def within(self, storages: set[int]) -> tuple[str, ...]:
        """Return the results that lie in some storages."""
        return tuple(name for name, t in self.given.items() if t.numel() and t.untyped_storage().data_ptr() in storages)


def _unfit(result: Any, device: str) -> str | None:
    """Say what a result is, if it is no plain tensor: it may compute when it is read, which no clock would see."""
    if type(result) not in (Tensor, torch.nn.Parameter):
        return f"a {type(result).__qualname__}"
    if result.layout is not torch.strided:
        return f"a tensor of layout {result.layout}"
    if result.device.type != device:
        return f"a tensor on {result.device}"
    return "a view that negates or conjugates when it is read" if result.is_neg() or result.is_conj() else None


@dataclass(frozen=True)
class _Before:
    """The call on other contents, which is the first where calls are watched."""

    contents: OtherContents
    kept: _Kept


@dataclass(frozen=True)
class _Observer:
    """Makes the calls after those on other contents, if it is ``watched``, and on the case's ``own``."""

    call: Call
    workload: Workload
    own: _Kept
    first: Counters  # before the first call to after it
    watched: _Before | None
    recorder: OpTrace = field(default_factory=OpTrace)  # watches the call for the fingerprint

    def observe(self) -> tuple[Fingerprint, Calls]:
        own, compiled = self.own.copies, self.first.any
        poison = Poison(NAN)
        print_, unlike, garbage = self._fingerprint(poison)
        calls = Calls(filled=not compiled or can_run_eagerly())
        if self.watched is not None:
            kept, cached = leaks.kept(self.call, self._grown()) if self._keeps() else (None, None)
            calls = replace(calls, kept_bytes=kept, cached_bytes=cached, garbage_bytes=garbage)
        # By chance, fresh memory may have held in earlier calls what one filling holds, but not what both hold.
        suspect = unlike or (self.watched is not None and (compiled or self._depends_on_a_large_filling(poison)))
        unwritten = self._unwritten() if suspect else set[str]()
        noise: dict[str, float] = {}
        if unlike:
            plain = self.call.results()
            noise = {name: distance(plain[name], own[name]) for name in _unlike(own, plain)}
        unrepeated, stale = {*noise}, set[str]()
        odd_first = self._odd_first(unrepeated - unwritten) if self.watched is None else set[str]()
        unrepeated -= odd_first
        if self.watched is not None:
            earlier, sought = self.watched.kept.copies, LARGE if poison.filled else None
            with self.watched.contents:
                calls = replace(calls, retains_graph=True if self.call.backward and not compiled else None)
                if _unlike(earlier, self._in_other_modes(sought)):
                    unwritten |= self._unwritten()
                    plain = self.call.results()
                    for name in _unlike(earlier, plain):
                        apart = _apart(name, plain[name], earlier[name], noise.get(name, 0.0))
                        (stale if apart else unrepeated).add(name)
                    odd_first = self._odd_first(stale - unwritten)
                    stale -= odd_first
                    calls = self._by_mode(calls, earlier, {*stale, *unrepeated, *unwritten, *odd_first}, noise)
            calls = replace(
                calls,
                first_call_s=None if compiled else self._first_call_s(self.watched.kept),
                compiles_each_length=compiles_each_length(self.call, self.workload) if compiled else None,
                batch_invariant=None if compiled or unrepeated else self._batch_invariant(),
            )
        calls = replace(
            calls,
            stale=_ordered(own, stale - unwritten),
            unwritten=_ordered(own, unwritten),
            unrepeated=_ordered(own, unrepeated - unwritten),
            odd_first=_ordered(own, odd_first - unwritten),
        )
        return print_, calls

    def _depends_on_a_large_filling(self, poison: Poison) -> bool:
        return poison.filled > 0 and bool(_unlike(self.own.copies, self._attempt(LARGE)))

    def _in_other_modes(self, filling: Filling | None) -> Results | None:
        """Make a call as others may make it; None if it raises."""
        if self.first.any:
            return self._attempt(filling)
        try:
            with ExitStack() as modes:
                for _, mode in _modes(self.call):
                    modes.enter_context(mode)
                modes.enter_context(nullcontext() if filling is None else Poison(filling))
                return self.call.results(twice=self.call.backward)
        except Exception:  # noqa: BLE001  # what an ordinary call raises, the next one does
            return None

    def _by_mode(self, calls: Calls, results: Results, explained: set[str], noise: dict[str, float]) -> Calls:
        """Find which mode gives other results than ``results``, beside those that are explained already."""
        if self.first.any:
            return calls

        def apart(seen: Results) -> list[str]:
            return [n for n in seen if n not in explained and _apart(n, seen[n], results[n], noise.get(n, 0.0))]

        found: list[str] = []
        for name, mode in _modes(self.call):
            with mode:
                found += [f"{result} {name}" for result in apart(self.call.results())]
        if not self.call.backward:
            return replace(calls, other_modes=tuple(found))
        try:
            second = apart(self.call.results(twice=True))
        except Exception:  # noqa: BLE001  # whatever a backward pass of somebody's own raises
            return replace(calls, other_modes=tuple(found), retains_graph=False)
        return replace(calls, other_modes=tuple(found), second_backward=tuple(second), retains_graph=True)

    def _odd_first(self, suspects: set[str]) -> set[str]:
        """Return the suspects if they are wrong because a call is the first of its length."""
        if "out" not in suspects:
            return set()
        again = at_new_lengths(self.call, self.workload)
        return suspects if any(_apart("out", second, one, 0.0) for _, one, second in again) else set()

    def _first_call_s(self, first: _Kept) -> float | None:
        """Return how much longer the first call of a length takes; if that is much, the least of some new lengths."""
        more_s, key = first.seconds - self.own.seconds, f"{self.workload.case.subject} at new lengths"
        if more_s < SLOW_FIRST_S:
            return max(0.0, more_s)
        if key in self.call.tried_longer:
            return None
        again = [seconds for seconds, *_ in at_new_lengths(self.call, self.workload)]
        if again and min(again) > SLOW_FIRST_S:
            self.call.tried_longer.add(key)  # it takes long: once is enough
        return min(again, default=None)

    def _fingerprint(self, poison: Poison) -> tuple[Fingerprint, tuple[str, ...], int | None]:
        """Take the fingerprint; returns which results of that call are unlike the ones before, and garbage in bytes."""
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

        own, failed = self.own.copies, False
        with no_garbage_collection():
            try:
                with nullcontext() if self.first.any else poison:
                    print_ = take(self.recorder)
            except Exception:  # noqa: BLE001  # it raises again, unless it was for what the memory held
                failed, print_ = True, take(OpTrace())
            again = {"out": outs[0].detach()}
            if gradients:
                again |= {f"d{name}": g for name, g in zip(self.call.names, gradients[0], strict=True)}
            unlike = tuple(own) if failed else _unlike(own, again)
            outs.clear()
            gradients.clear()
            again.clear()
            return print_, unlike, self._garbage()

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

    def _garbage(self) -> int | None:
        """Return the bytes that a call leaves to the garbage collector; None where there are none."""
        if self.watched is None:
            return None
        if self._device == "cuda":
            grown = self._grown()
            grown(self.call)
            return -grown(gc.collect) or None
        # Compiled code: what the profiler sees of a collection is not the call's alone.
        return None if self.first.any else leaks.garbage(self.recorder)

    def _keeps(self) -> bool:
        """Whether a call left bytes alive."""
        if self._device == "cuda" or self.first.any:
            return self._grown()(self.call) > 0
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
        return same_bits(out, self.own.copies["out"][:1]) if out.shape[0] == 1 else None


def _modes(call: Call) -> Iterator[tuple[str, Any]]:
    """Yield the modes that others may call it in, each a context, with words for a message."""
    if call.module is not None and call.module.training:
        yield "in evaluation", _evaluating(call.module)
    if not call.backward:
        yield "in inference mode", torch.inference_mode()


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    module.eval()
    try:
        yield
    finally:
        module.train()


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
        **{name: f"{name}: depends on uninitialised memory" for name in calls.unwritten},
        **{name: f"{name}: is wrong at the first call of a length" for name in calls.odd_first},
        **{name: f"{name}: is wrong in a second backward pass" for name in calls.second_backward},
        **{(name := other.partition(" ")[0]): f"{name}: differs{other[len(name) :]}" for other in calls.other_modes},
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
