"""Compares two fingerprints: changes that fail, notes that do not, and the cause where it is known. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import fields

from ..plain.execution import WRONG, Calls, Fingerprint, Pass, SdpaCall
from ..plain.printable import counted

# Peak bytes may grow by this share plus so many bytes: a temporary of a page is no regression.
PEAK_TOLERANCE = 0.05
PEAK_TOLERANCE_BYTES = 64 * 1024
# What the first call at a new length may take: so many times the base's, and so many seconds more.
FIRST_CALL_FACTOR, FIRST_CALL_S = 5.0, 0.05

NOTHING = Fingerprint(Pass({}, 0, 0), calls=Calls())  # of a call that has nothing to report


def compare(base: Fingerprint | None, head: Fingerprint | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return changes, which fail, and notes, which do not, each a phrase.

    Without a fingerprint of the base, what the head's alone shows is a note.
    """
    if head is None:
        return (), ()
    if base is None:
        return (), tuple(_call_changes(NOTHING, head))
    changes = [*_backend(base, head), *_compiled(base, head), *_call_changes(base, head)]
    notes = [*_sdpa_notes(base, head), *_compiled_notes(base, head), *_call_notes(base.calls, head.calls)]
    notes += _launch_notes(base.launches, head.launches)
    if (base.compilation is None) is (head.compilation is None):  # otherwise two different tools counted ops and bytes
        peaks = [*_grown_peaks(base, head)]
        changes += peaks
        notes += _bytes_notes(base, head, told=peaks != [])
        counts = {op: head.ops.get(op, 0) - base.ops.get(op, 0) for op in sorted({*base.ops, *head.ops})}
        if any(counts.values()):
            notes.append("ops " + ", ".join(f"{n:+d} {op}" for op, n in counts.items() if n))
    return tuple(changes), tuple(notes)


def _backend(base: Fingerprint, head: Fingerprint) -> Iterator[str]:
    if base.backend != head.backend:
        cause = _cause(base.sdpa, head.sdpa)
        yield f"backend {base.backend or 'none'} -> {head.backend or 'none'}{f' because {cause}' if cause else ''}"


def _cause(base: tuple[SdpaCall, ...], head: tuple[SdpaCall, ...]) -> str:
    """Say why another backend ran: what a fused backend now refuses or no longer refuses, or which arguments differ."""
    before, after = _refusals(base), _refusals(head)
    now = [reason for reason in after if reason not in before]
    if now:
        return " and ".join(now)
    gone = [reason for reason in before if reason not in after]
    if gone:
        return f"this is gone: {' and '.join(gone)}"
    return ", ".join(_differences(base, head))


def _refusals(calls: tuple[SdpaCall, ...]) -> list[str]:
    return list(dict.fromkeys(reason for call in calls for reason in why_not_fused(call)))


def why_not_fused(call: SdpaCall) -> list[str]:
    """Say why PyTorch's fused CPU backend refuses a call; nothing about CUDA, whose backends have other rules.

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


def _differences(base: tuple[SdpaCall, ...], head: tuple[SdpaCall, ...]) -> Iterator[str]:
    """Name the arguments that differ between calls that correspond."""
    for before, after in zip(base, head, strict=False):
        for argument in fields(SdpaCall):
            old, new = getattr(before, argument.name), getattr(after, argument.name)
            if old != new:
                yield f"{argument.name.replace('_', ' ')} {_plain(old)} -> {_plain(new)}"
        if before != after:
            return  # one difference is enough to find the code


def _plain(value: object) -> str:
    return "none" if value is None else str(value)


def _sdpa_notes(base: Fingerprint, head: Fingerprint) -> Iterator[str]:
    if base.backend == head.backend:
        differences = ", ".join(_differences(base.sdpa, head.sdpa))
        if differences:
            yield f"sdpa's {differences}"


def _compiled(base: Fingerprint, head: Fingerprint) -> Iterator[str]:
    before, after = base.compilation, head.compilation
    if before is not None and after is None:
        yield "compiled -> eager: torch.compile no longer takes part"
    if after is None:
        return
    breaks, known = list(after.breaks), [] if before is None else list(before.breaks)
    if len(breaks) > len(known):
        reasons = dict.fromkeys(reason for reason in breaks if reason not in known)
        why = f" because {'; '.join(reasons)}" if reasons else ""
        yield f"graph breaks {len(known)} -> {len(breaks)}{why}"
    recompiled = 0 if before is None else before.recompiles
    if after.recompiles > recompiled:
        yield f"graphs compiled again by a repeated call {recompiled} -> {after.recompiles}"


def _compiled_notes(base: Fingerprint, head: Fingerprint) -> Iterator[str]:
    before, after = base.compilation, head.compilation
    if after is None:
        return
    if before is None:
        yield f"eager -> compiled: {counted(after.graphs, 'graph')}, {counted(after.kernels, 'generated kernel')}"
        return
    for what, old, new in (
        ("graphs", before.graphs, after.graphs),
        ("generated kernels", before.kernels, after.kernels),
        ("graph breaks", len(before.breaks), min(len(after.breaks), len(before.breaks))),
    ):
        if old != new:
            yield f"{what} {old} -> {new}"


def _call_changes(base: Fingerprint, head: Fingerprint) -> Iterator[str]:
    before, after = base.calls, head.calls
    if before is None or after is None:
        return
    if after.unrepeated and not before.unrepeated:
        yield f"no longer repeats bit for bit ({', '.join(after.unrepeated)})"
    yield from _kept_changes(before, after)
    yield from _use_changes(before, after)
    if after.compiles_each_length and (base.compilation is None or before.compiles_each_length is False):
        yield "compiles for each length"


def _kept_changes(base: Calls, head: Calls) -> Iterator[str]:
    """Compare the memory that a call leaves occupied."""
    if (head.kept_bytes or 0) > (base.kept_bytes or 0):
        yield f"keeps {head.kept_bytes} bytes a call alive{_of_base(base.kept_bytes)}"
    if (head.garbage_bytes or 0) > (base.garbage_bytes or 0):
        yield f"{head.garbage_bytes} bytes a call wait for garbage collection{_of_base(base.garbage_bytes)}"
    if base.result_bytes is not None and (head.result_bytes or 0) > base.result_bytes * (1 + PEAK_TOLERANCE):
        yield f"the output keeps {head.result_bytes} bytes alive{_of_base(base.result_bytes)}"


def _use_changes(base: Calls, head: Calls) -> Iterator[str]:
    """Compare what whoever calls it must expect."""
    if base.strides is not None and head.strides is not None and base.strides != head.strides:
        yield f"strides of the output {base.strides} -> {head.strides}"
    for state in head.left_changed:
        if state not in base.left_changed:
            yield f"leaves {state} changed"
    if base.retains_graph and head.retains_graph is False:
        yield "a second backward pass through the same graph raises"
    if base.first_call_s is not None and head.first_call_s is not None:
        limit_s = max(FIRST_CALL_FACTOR * base.first_call_s, base.first_call_s + FIRST_CALL_S)
        if head.first_call_s > limit_s:
            yield f"first call at a new length {1e3 * base.first_call_s:.3g} ms -> {1e3 * head.first_call_s:.3g} ms"


def _of_base(size: int | None) -> str:
    return f", and the base {size}" if size else ""


def _call_notes(base: Calls | None, head: Calls | None) -> Iterator[str]:
    if base is None or head is None:
        return
    for field, what in WRONG.items():
        if names := getattr(base, field):
            yield f"the base's {', '.join(names)} {what}"
    if common := [state for state in head.left_changed if state in base.left_changed]:
        yield f"base and head leave {' and '.join(common)} changed"
    yield from _kept_notes(base, head)
    if base.unrepeated:
        yield "base and head do not repeat bit for bit" if head.unrepeated else "repeats bit for bit now"
    if base.compiles_each_length and head.compiles_each_length is False:
        yield "compiles for each length no longer"
    if {base.batch_invariant, head.batch_invariant} == {True, False}:
        depends = "does not depend" if head.batch_invariant else "depends"
        yield f"an item's result {depends} on the rest of its batch, unlike the base's"


def _kept_notes(base: Calls, head: Calls) -> Iterator[str]:
    kept, cached = head.kept_bytes or 0, head.cached_bytes or 0
    if kept <= (base.kept_bytes or 0) and base.kept_bytes:
        yield f"keeps {kept} bytes a call alive, and the base {base.kept_bytes}"
    if cached != (base.cached_bytes or 0):
        yield f"keeps {cached} bytes alive between calls, and the base {base.cached_bytes or 0}"
    if head.aliased != base.aliased:
        before, after = (", ".join(calls.aliased) or "none" for calls in (base, head))
        yield f"results that are memory of the inputs: {before} -> {after}"


def _grown_peaks(base: Fingerprint, head: Fingerprint) -> Iterator[str]:
    """Compare the peak of the whole call; if it is within its limit, also that of the forward pass, for inference."""
    for name, before, after in (
        ("peak", base.peak_bytes, head.peak_bytes),
        ("forward peak", base.forward.peak_bytes, head.forward.peak_bytes),
    ):
        if after > before * (1 + PEAK_TOLERANCE) + PEAK_TOLERANCE_BYTES:
            yield f"{name} {mebibytes(before)} -> {mebibytes(after)}"
            return


def _launch_notes(base: Mapping[str, int] | None, head: Mapping[str, int] | None) -> Iterator[str]:
    if base is None or head is None or base == head:
        return
    before, after = sum(base.values()), sum(head.values())
    yield f"launches {before} -> {after}" if before != after else "launches other kernels"


def _bytes_notes(base: Fingerprint, head: Fingerprint, *, told: bool) -> Iterator[str]:
    peak = head.peak_bytes - base.peak_bytes
    allocated = head.allocated_bytes - base.allocated_bytes
    if peak and not told:
        yield f"peak {signed(peak)}"
    if allocated:
        yield f"allocated {signed(allocated)}"


def mebibytes(size: int) -> str:
    """Write a size in MiB."""
    return f"{size / 2**20:.2f} MiB"


def signed(size: int) -> str:
    """Write a difference of sizes in the unit that suits it."""
    if abs(size) < 1024:
        return f"{size:+d} B"
    return f"{size / 2**10:+.4g} KiB" if abs(size) < 2**20 else f"{size / 2**20:+.2f} MiB"
