"""Compares two fingerprints: changes that fail, notes that do not, and the cause where it is known. Pure."""

from collections.abc import Iterator
from dataclasses import fields

from ..plain.execution import WRONG, Calls, Compilation, Fingerprint, Pass, SdpaCall
from ..plain.printable import counted

# Peak bytes may grow by this share plus this many bytes: a temporary of a page is not a regression.
PEAK_TOLERANCE = 0.05
PEAK_TOLERANCE_BYTES = 64 * 1024
# The first call at a new length may take this many times the base's time, or this many seconds more, if that is longer.
FIRST_CALL_FACTOR, FIRST_CALL_S = 5.0, 0.05

Differences = Iterator[tuple[bool, str]]  # each fails or is a note, and has a phrase
FAILS, NOTE = True, False
NOTHING = Fingerprint(Pass({}, 0, 0), calls=Calls())  # the fingerprint of a call that has nothing to report


def compare(base: Fingerprint | None, head: Fingerprint | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return two lists of phrases: changes, which fail the case, and notes, which do not.

    Without a fingerprint of the base, whatever the head's fingerprint shows is a note.
    """
    if head is None:
        return (), ()
    if base is None:
        return (), tuple(phrase for fails, phrase in _calls(NOTHING, head) if fails)
    kinds = (_backend, _compiled, _calls, _launches, _memory)
    found = [difference for kind in kinds for difference in kind(base, head)]
    return tuple(phrase for fails, phrase in found if fails), tuple(phrase for fails, phrase in found if not fails)


def _backend(base: Fingerprint, head: Fingerprint) -> Differences:
    if base.backend != head.backend:
        cause = _cause(base.sdpa, head.sdpa)
        because = f" because {cause}" if cause else ""
        yield FAILS, f"backend {base.backend or 'none'} -> {head.backend or 'none'}{because}"
    elif arguments := ", ".join(_arguments(base.sdpa, head.sdpa)):
        yield NOTE, f"sdpa's {arguments}"


def _cause(base: tuple[SdpaCall, ...], head: tuple[SdpaCall, ...]) -> str:
    """Say why another backend ran: reasons to refuse the call that are new or gone, or else arguments that differ."""
    before, after = _refusals(base), _refusals(head)
    now = [reason for reason in after if reason not in before]
    if now:
        return " and ".join(now)
    gone = [reason for reason in before if reason not in after]
    if gone:
        return f"this is gone: {' and '.join(gone)}"
    return ", ".join(_arguments(base, head))


def _refusals(calls: tuple[SdpaCall, ...]) -> list[str]:
    return list(dict.fromkeys(reason for call in calls for reason in why_not_fused(call)))


def why_not_fused(call: SdpaCall) -> list[str]:
    """Say why PyTorch's fused CPU backend refuses a call; an empty list for CUDA, whose backends have other rules.

    Source: ``use_flash_attention_cpp`` in PyTorch's ``aten/src/ATen/native/transformers/sdp_utils_cpp.cpp``.
    """
    if call.device != "cpu":
        return []
    shapes = (call.q, call.k, call.v)
    dropout = (call.dropout > 0, f"dropout is {call.dropout:g}")
    if any(len(shape) != 4 for shape in shapes):
        dimensions = ", ".join(str(len(shape)) for shape in shapes)
        rules = [dropout, (True, f"q, k, v have {dimensions} dimensions and 4 are needed")]
    else:
        batches, heads, tokens, sizes = zip(*shapes, strict=True)
        mask_dimensions = 2 if call.mask is None else len(call.mask)
        rules = [
            dropout,
            (len({*batches}) > 1, f"q, k, v have batches of {_listed(batches)}"),
            (len({*heads}) > 1 and not call.grouped, f"q, k, v have {_listed(heads)} heads without enable_gqa"),
            (len({*sizes}) > 1, f"q, k, v have head sizes {_listed(sizes)}"),
            (0 in tokens, "there are no queries or no keys"),
            (call.mask_requires_grad, "the mask requires a gradient"),
            (mask_dimensions not in (2, 4), f"the mask has {mask_dimensions} dimensions and 2 or 4 are needed"),
            (
                call.last_strides != (1, 1, 1),
                f"the last strides of q, k, v are {_listed(call.last_strides)} and 1 is needed",
            ),
        ]
    return [reason for refused, reason in rules if refused]


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _arguments(base: tuple[SdpaCall, ...], head: tuple[SdpaCall, ...]) -> Iterator[str]:
    """Name the arguments that differ in the first pair of corresponding calls that are not equal."""
    for before, after in zip(base, head, strict=False):
        for argument in fields(SdpaCall):
            old, new = getattr(before, argument.name), getattr(after, argument.name)
            if old != new:
                yield f"{argument.name.replace('_', ' ')} {_plain(old)} -> {_plain(new)}"
        if before != after:
            return  # one difference is enough to find the code


def _plain(value: object) -> str:
    return "none" if value is None else str(value)


def _compiled(base: Fingerprint, head: Fingerprint) -> Differences:
    before, after = base.compilation, head.compilation
    if after is None:
        if before is not None:
            yield FAILS, "compiled -> eager: torch.compile no longer takes part"
        return
    if before is None:
        yield NOTE, f"eager -> compiled: {counted(after.graphs, 'graph')}, {counted(after.kernels, 'generated kernel')}"
    known = before or Compilation(after.graphs, (), 0, after.kernels)
    if len(after.breaks) > len(known.breaks):
        reasons = dict.fromkeys(reason for reason in after.breaks if reason not in known.breaks)
        why = f" because {'; '.join(reasons)}" if reasons else ""
        yield FAILS, f"graph breaks {len(known.breaks)} -> {len(after.breaks)}{why}"
    if after.recompiles > known.recompiles:
        yield FAILS, f"graphs compiled again by a repeated call {known.recompiles} -> {after.recompiles}"
    for what, old, new in (
        ("graphs", known.graphs, after.graphs),
        ("generated kernels", known.kernels, after.kernels),
        ("graph breaks", len(known.breaks), min(len(after.breaks), len(known.breaks))),
    ):
        if old != new:
            yield NOTE, f"{what} {old} -> {new}"


def _calls(base: Fingerprint, head: Fingerprint) -> Differences:
    before, after = base.calls, head.calls
    if before is None or after is None:
        return
    for field, what in WRONG.items():
        if names := getattr(before, field):
            yield NOTE, f"the base's result {what} ({', '.join(names)})"
    if before.unrepeated:
        yield NOTE, "base and head do not repeat bit for bit" if after.unrepeated else "repeats bit for bit now"
    elif after.unrepeated:
        yield FAILS, f"no longer repeats bit for bit ({', '.join(after.unrepeated)})"
    yield from _kept(before, after)
    yield from _use(before, after)
    if after.compiles_each_length and (base.compilation is None or before.compiles_each_length is False):
        yield FAILS, "compiles for each length"
    if before.compiles_each_length and after.compiles_each_length is False:
        yield NOTE, "compiles for each length no longer"


def _kept(base: Calls, head: Calls) -> Differences:
    """Compare the memory that stays occupied after a call."""
    kept, of_base = head.kept_bytes or 0, base.kept_bytes or 0
    if kept or of_base:
        yield kept > of_base, f"keeps {counted(kept, 'byte')} a call alive{_beside(of_base)}"
    if head.garbage_bytes is not None and head.garbage_bytes > (base.garbage_bytes or 0):
        garbage = counted(head.garbage_bytes, "byte")
        yield FAILS, f"leaves {garbage} a call to the garbage collector{_beside(base.garbage_bytes)}"
    if base.result_bytes is not None and (head.result_bytes or 0) > base.result_bytes * (1 + PEAK_TOLERANCE):
        yield FAILS, f"the output keeps {head.result_bytes} bytes alive{_beside(base.result_bytes)}"
    cached, of_base = head.cached_bytes or 0, base.cached_bytes or 0
    if cached != of_base:
        yield NOTE, f"keeps {counted(cached, 'byte')} alive between calls, and the base {of_base}"
    if head.aliased != base.aliased:
        before, after = (", ".join(calls.aliased) or "none" for calls in (base, head))
        yield NOTE, f"results that are memory of the inputs: {before} -> {after}"


def _beside(size: int | None) -> str:
    return f", and the base {size}" if size else ""


def _use(base: Calls, head: Calls) -> Differences:
    """Compare what a caller notices: strides, changed state, a graph that is gone, a slow first call."""
    if base.strides is not None and head.strides is not None and base.strides != head.strides:
        yield FAILS, f"strides of the output {base.strides} -> {head.strides}"
    for state in head.left_changed:
        if state not in base.left_changed:
            yield FAILS, f"leaves {state} changed"
    if common := [state for state in head.left_changed if state in base.left_changed]:
        yield NOTE, f"base and head leave {' and '.join(common)} changed"
    if base.retains_graph and head.retains_graph is False:
        yield FAILS, "a second backward pass through the same graph raises"
    before_s, after_s = base.first_call_s, head.first_call_s
    limit_s = max(FIRST_CALL_FACTOR * (before_s or 0.0), (before_s or 0.0) + FIRST_CALL_S)
    if before_s is not None and after_s is not None and after_s > limit_s:
        yield FAILS, f"first call at a new length {1e3 * before_s:.3g} ms -> {1e3 * after_s:.3g} ms"
    if {base.batch_invariant, head.batch_invariant} == {True, False}:
        depends = "does not depend" if head.batch_invariant else "depends"
        yield NOTE, f"an item's result {depends} on the rest of its batch, unlike the base's"


def _launches(base: Fingerprint, head: Fingerprint) -> Differences:
    if base.launches is None or head.launches is None or base.launches == head.launches:
        return
    before, after = sum(base.launches.values()), sum(head.launches.values())
    yield NOTE, f"launches {before} -> {after}" if before != after else "launches other kernels"


def _memory(base: Fingerprint, head: Fingerprint) -> Differences:
    """Compare bytes and ops, unless one side alone is compiled: two different tools have counted them then.

    The peak of the whole call has a limit; where that holds, also that of the forward pass, for inference.
    """
    if (base.compilation is None) is not (head.compilation is None):
        return
    peaks = (
        ("peak", base.peak_bytes, head.peak_bytes),
        ("forward peak", base.forward.peak_bytes, head.forward.peak_bytes),
    )
    grown = [peak for peak in peaks if peak[2] > peak[1] * (1 + PEAK_TOLERANCE) + PEAK_TOLERANCE_BYTES]
    if grown:
        name, before, after = grown[0]
        yield FAILS, f"{name} {mebibytes(before)} -> {mebibytes(after)}"
    elif head.peak_bytes != base.peak_bytes:
        yield NOTE, f"peak {signed(head.peak_bytes - base.peak_bytes)}"
    if head.allocated_bytes != base.allocated_bytes:
        yield NOTE, f"allocated {signed(head.allocated_bytes - base.allocated_bytes)}"
    counts = {op: head.ops.get(op, 0) - base.ops.get(op, 0) for op in sorted({*base.ops, *head.ops})}
    if any(counts.values()):
        yield NOTE, "ops " + ", ".join(f"{n:+d} {op}" for op, n in counts.items() if n)


def mebibytes(size: int) -> str:
    """Write a size in MiB."""
    return f"{size / 2**20:.2f} MiB"


def signed(size: int) -> str:
    """Write a difference of sizes in the unit that suits it."""
    if abs(size) < 1024:
        return f"{size:+d} B"
    return f"{size / 2**10:+.4g} KiB" if abs(size) < 2**20 else f"{size / 2**20:+.2f} MiB"
