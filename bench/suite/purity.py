"""Checks that a call does its work: makes several calls, on the case's inputs and on others, and compares them.

All calls are given the same tensors, whose contents change in between. So a side that remembers a result by a tensor's
address, shape, identity or version returns the result of other contents. In order:

1. a call on other contents;
2. one on the case's own contents, whose results are held to the oracle;
3. one for the fingerprint, with fresh memory filled with NaN;
4. where a call uses fresh memory: one on the case's own contents, with fresh memory filled with a large number;
5. one on the other contents again, with fresh memory filled likewise, in inference mode and as a module that is
   evaluated, or with a second backward pass through the graph.

Where calls are not watched, only the second and the third are made. Where two calls should agree and do not, more calls
find out why.
"""

import gc
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
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
from ..observing.tolerance import CAPS, Results, distance, same_bits, unlike
from ..plain.collecting import no_garbage_collection
from ..plain.execution import Calls, Fingerprint
from ..twins.party import Misbehaved
from .contents import OtherContents, first_item, resized
from .lengths import at_new_lengths, compiles_each_length
from .returned import Returned
from .workload import WROTE, Call, Workload

Mode = AbstractContextManager[Any]

TOLERANCE = 2.0  # results that differ by more than this many caps of the error rule are of different inputs
NOISE = 4.0  # where calls on the same inputs differ, results may differ by so many times that
SLOW_FIRST_S = 0.02  # a first call that takes so much longer than the second is tried at other lengths, too


def execute(call: Call, workload: Workload) -> tuple[dict[str, Tensor], Fingerprint]:
    """Do the work for its results, which compiles what is to be compiled, for its fingerprint, and to compare calls.

    Raises:
        Misbehaved: it wrote to an input, or a result is no plain tensor on the case's device.

    """
    device, before = workload.case.device, counters()
    others = OtherContents(workload) if workload.case.watched else None
    with others or nullcontext(), no_garbage_collection(), states.watching() as left:
        first = Returned.by(call, device)
    compiled = counters().since(before)
    own = first if others is None else Returned.by(call, device)
    observer = _Observer(call, workload, others, first, own, compiled)
    print_, calls = observer.observe()
    inputs = {t.untyped_storage().data_ptr() for t in workload.tensors if t.numel()}
    if not inputs.isdisjoint(observer.recorder.written):  # through ``.data``, which torch does not count
        raise Misbehaved(WROTE)
    aliased = own.within(inputs)
    overwritten = {*own.overwritten, *first.overwritten}.difference(aliased)
    out = own.given["out"]
    calls = replace(
        calls,
        aliased=aliased,
        overwritten=tuple(name for name in own.copies if name in overwritten),
        left_changed=tuple(left),
        strides=tuple(stride if size > 1 else 0 for stride, size in zip(out.stride(), out.shape, strict=True)),
        result_bytes=None if "out" in aliased else out.untyped_storage().nbytes(),
    )
    return own.copies, replace(print_, calls=calls, launches=launches(call) if device == "cuda" else None)


@dataclass(frozen=True)
class _Observer:
    """Makes the calls after the first, and on the case's ``own`` contents, and says what they show.

    The ``first`` call was on the contents of ``others``. Where calls are not watched, ``others`` is None and the first
    call was on the case's own contents. ``compiled`` counts what torch.compile did in the first call.
    """

    call: Call
    workload: Workload
    others: OtherContents | None
    first: Returned
    own: Returned
    compiled: Counters
    recorder: OpTrace = field(default_factory=OpTrace)  # watches the call for the fingerprint

    def observe(self) -> tuple[Fingerprint, Calls]:
        """Make calls until it is known what each result depends on."""
        own, compiled, poison = self.own.copies, self.compiled.any, Poison(NAN)
        print_, differs, garbage = self._fingerprint(poison)
        calls = Calls(filled=not compiled or can_run_eagerly())
        if self.others is not None:
            kept, cached = leaks.kept(self.call, self._grown()) if self._keeps() else (None, None)
            calls = replace(calls, kept_bytes=kept, cached_bytes=cached, garbage_bytes=garbage)
        causes: dict[str, str] = {}  # of what is wrong with a result: the first field of ``Calls`` that explains it

        def explain(cause: str, names: Iterable[str]) -> None:
            for name in names:
                causes.setdefault(name, cause)

        # By chance, fresh memory may have held in earlier calls what one filling holds, but not what both hold.
        if differs or (self.others is not None and (compiled or self._depends_on_a_large_filling(poison))):
            explain("unwritten", self._unwritten())
        noise: dict[str, float] = {}
        if differs:
            plain = self.call.results()
            noise = {name: distance(plain[name], own[name]) for name in unlike(own, plain)}
        if self.others is None:
            explain("odd_first", self._odd_first(noise.keys() - causes))
        else:
            earlier = self.first.copies
            with self.others:
                calls = replace(calls, retains_graph=True if self.call.backward and not compiled else None)
                if unlike(earlier, self._in_other_modes(LARGE if poison.filled else None)):
                    explain("unwritten", self._unwritten())
                    plain = self.call.results()
                    changed = unlike(earlier, plain)
                    stale = {n for n in changed if _apart(n, plain[n], earlier[n], noise.get(n, 0.0))} - causes.keys()
                    explain("odd_first", self._odd_first(stale))
                    explain("stale", stale)
                    explain("unrepeated", [*changed, *noise])
                    calls = self._by_mode(calls, earlier, causes.keys(), noise)
            calls = replace(
                calls,
                first_call_s=None if compiled else self._first_call_s(),
                compiles_each_length=compiles_each_length(self.call, self.workload) if compiled else None,
                batch_invariant=None if compiled or causes or noise else self._batch_invariant(),
            )
        explain("unrepeated", noise)
        named: dict[str, Any] = {
            cause: tuple(name for name in own if causes.get(name) == cause)
            for cause in ("unwritten", "odd_first", "stale", "unrepeated")
        }
        return print_, replace(calls, **named)

    def _fingerprint(self, poison: Poison) -> tuple[Fingerprint, bool, int | None]:
        """Take the fingerprint; returns whether results of that call differ from the ones before, and its garbage."""
        seen: dict[str, Tensor] = {}

        def forward() -> Tensor:
            out = self.call.forward()
            seen.setdefault("out", out)  # the first time: the fingerprint may need another forward pass
            return out

        def backward(out: Tensor) -> None:
            seen.update(self.call.differentiate(out))

        def take(recorder: OpTrace) -> Fingerprint:
            seen.clear()
            both, device = backward if self.call.backward else None, self.workload.case.device
            return fingerprint(forward, both, device=device, compiled=self.compiled, recorder=recorder)

        with no_garbage_collection():
            try:
                with nullcontext() if self.compiled.any else poison:
                    print_ = take(self.recorder)
                differs = bool(unlike(self.own.copies, seen))
            except Exception:  # noqa: BLE001  # it raises again, unless it was for what the memory held
                print_, differs = take(OpTrace()), True
            seen.clear()
            return print_, differs, self._garbage()

    def _depends_on_a_large_filling(self, poison: Poison) -> bool:
        return poison.filled > 0 and bool(unlike(self.own.copies, self._attempt(LARGE)))

    def _attempt(self, filling: Filling | None, *modes: Mode, twice: bool = False) -> Results | None:
        """Do the work in some modes and with fresh memory filled; None if it raises: the caller judges that."""
        try:
            with ExitStack() as entered:
                for mode in (*modes, nullcontext() if filling is None else Poison(filling)):
                    entered.enter_context(mode)
                return self.call.results(twice=twice)
        except Exception:  # noqa: BLE001
            return None

    def _in_other_modes(self, filling: Filling | None) -> Results | None:
        """Make a call as others may make it, if it is not compiled: in all modes, or with a second backward pass."""
        if self.compiled.any:
            return self._attempt(filling)
        return self._attempt(filling, *_modes(self.call).values(), twice=self.call.backward)

    def _by_mode(self, calls: Calls, results: Results, explained: Collection[str], noise: Mapping[str, float]) -> Calls:
        """Find which mode gives other results than ``results``, beside those that are explained already."""
        if self.compiled.any:
            return calls

        def apart(seen: Results) -> list[str]:
            return [n for n in seen if n not in explained and _apart(n, seen[n], results[n], noise.get(n, 0.0))]

        found: list[str] = []
        for name, mode in _modes(self.call).items():
            with mode:
                found += [f"{result} {name}" for result in apart(self.call.results())]
        calls = replace(calls, other_modes=tuple(found))
        if not self.call.backward:
            return calls
        second = self._attempt(None, twice=True)
        return replace(calls, second_backward=tuple(apart(second or {})), retains_graph=second is not None)

    def _odd_first(self, suspects: set[str]) -> set[str]:
        """Return the suspects if they are wrong because a call is the first of its length."""
        if "out" not in suspects:
            return set()
        again = at_new_lengths(self.call, self.workload)
        return suspects if any(_apart("out", second, one, 0.0) for _, one, second in again) else set()

    def _first_call_s(self) -> float | None:
        """Return how much longer the first call of a length takes; if that is much, the least of some new lengths."""
        more_s, key = self.first.seconds - self.own.seconds, f"{self.workload.case.subject} at new lengths"
        if more_s < SLOW_FIRST_S:
            return max(0.0, more_s)
        if key in self.call.tried_longer:
            return None
        again = [seconds for seconds, *_ in at_new_lengths(self.call, self.workload)]
        if again and min(again) > SLOW_FIRST_S:
            self.call.tried_longer.add(key)  # it takes long: once is enough
        return min(again, default=None)

    def _unwritten(self) -> set[str]:
        """Name the results that depend on what fresh memory holds, beyond what they differ by in any case."""
        if self.compiled.any and not can_run_eagerly():
            return set()
        with eagerly() if self.compiled.any else nullcontext():
            zeroed, again = self._attempt(ZERO), self._attempt(ZERO)
            if zeroed is None or again is None:
                return set()
            noise = {name: distance(again[name], t) for name, t in zeroed.items()}
            found: set[str] = set()
            for filled in map(self._attempt, (NAN, LARGE)):
                for name in unlike(zeroed, filled):
                    if filled is None or noise[name] == 0 or _apart(name, filled[name], zeroed[name], noise[name]):
                        found.add(name)
            return found

    def _garbage(self) -> int | None:
        """Return the bytes that a call leaves to the garbage collector; None where there are none."""
        if self.others is None:
            return None
        if self.workload.case.device == "cuda":
            grown = self._grown()
            grown(self.call)
            return -grown(gc.collect) or None
        # Compiled code: what the profiler sees of a collection is not the call's alone.
        return None if self.compiled.any else leaks.garbage(self.recorder)

    def _keeps(self) -> bool:
        """Whether a call left bytes alive."""
        if self.workload.case.device == "cuda" or self.compiled.any:
            return self._grown()(self.call) > 0
        return self.recorder.live_bytes > 0

    def _grown(self) -> leaks.Grown:
        return leaks.counting(on_gpu=self.workload.case.device == "cuda", compiled=self.compiled.any)

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


def _modes(call: Call) -> dict[str, Mode]:
    """Return the modes that others may call it in, each a context, by words for a message."""
    modes: dict[str, Mode] = {}
    if call.module is not None and call.module.training:
        modes["in evaluation"] = _evaluating(call.module)
    if not call.backward:
        modes["in inference mode"] = torch.inference_mode()
    return modes


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    module.eval()
    try:
        yield
    finally:
        module.train()


def _apart(name: str, one: Tensor, another: Tensor, noise: float) -> bool:
    """Whether results differ by more than rounding and the known difference between calls explain."""
    cap = CAPS.get(another.dtype, CAPS[torch.float32])[0 if name == "out" else 1]
    size = float(another.abs().nan_to_num(nan=0.0, posinf=0.0).max()) if another.numel() else 0.0
    return distance(one, another) > TOLERANCE * cap * max(1.0, size) + NOISE * noise
