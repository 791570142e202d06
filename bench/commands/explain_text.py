"""The text of ``python -m bench explain``: two observations of one case, side by side. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from textwrap import wrap

from ..judging.fingerprint_diff import compare, mebibytes
from ..plain.execution import Cost, Observed, OpTime, SdpaCall

WIDTH = 110
CONTEXT = 2  # ops shown on each side of a difference; longer stretches without one are folded
SLOWEST = 12  # rows of the table of times
_NAME, _BARS = 34, 64  # columns
_LEVELS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Observation(Observed):
    """What one side did in one call, and what to call that side."""

    label: str = ""


def explain(case_id: str, base: Observation | None, head: Observation, work: Cost) -> str:
    """Write everything; without a base, the head alone."""
    sides = [side for side in (base, head) if side is not None]
    lines = [case_id, *(f"  {side.label}" for side in sides), "", *_verdict(base, head), ""]
    lines += [*_facts(sides), f"  {'work':<20}{work.flops / 1e9:.4g} GFLOP, {mebibytes(work.moved_bytes)} to move", ""]
    lines += ["ops in order, with the MiB alive after each", *_ops(sides), ""]
    lines += ["memory over the call", *(line for side in sides for line in _memory(side)), ""]
    lines += ["time by op, in us a call (torch.profiler, which slows small ops)", *_times(sides)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _verdict(base: Observation | None, head: Observation) -> Iterator[str]:
    changes, notes = compare(None if base is None else base.fingerprint, head.fingerprint)
    for kind, phrases in (("CHANGED", changes), ("note", notes)):
        for phrase in phrases:
            yield from wrap(phrase, WIDTH, initial_indent=f"  {kind:<9}", subsequent_indent=" " * 11)
    if base is None:
        yield "  not in the base: nothing to compare with"
    elif not changes and not notes:
        yield "  the same on both sides"


def _facts(sides: Sequence[Observation]) -> Iterator[str]:
    prints = [side.fingerprint for side in sides]

    def row(name: str, *cells: str) -> str:
        return f"  {name:<20}" + "".join(f"{cell:<40}" for cell in cells)

    yield row("", *(side.label.partition(":")[0] for side in sides))
    yield row("SDPA backend", *(one.backend or "none" for one in prints))
    yield row("ops", *(str(sum(one.ops.values())) for one in prints))
    names = ("forward", "backward")
    for what, name in (("peak", "peak_bytes"), ("allocated", "allocated_bytes")):
        for i, direction in enumerate(names[: max(len(one.passes) for one in prints)]):
            cells = [mebibytes(getattr(one.passes[i], name)) if i < len(one.passes) else "-" for one in prints]
            yield row(f"{what}, {direction}", *cells)
    for i in range(max(len(one.sdpa) for one in prints)):
        calls = [_call(one.sdpa[i]) if i < len(one.sdpa) else [] for one in prints]
        for j in range(max(len(lines) for lines in calls)):
            yield row("" if j else "SDPA is given", *(lines[j] if j < len(lines) else "" for lines in calls))
    if any(one.compilation for one in prints):
        built = [one.compilation for one in prints]
        yield row("graphs, breaks", *("eager" if c is None else f"{c.graphs}, {len(c.breaks)}" for c in built))
        yield row("kernels generated", *("-" if c is None else str(c.kernels) for c in built))


def _call(call: SdpaCall) -> list[str]:
    mask = "no mask" if call.mask is None else f"mask {call.mask_dtype} {call.mask}"
    options = [mask, *(["causal"] if call.causal else []), *(["enable_gqa"] if call.grouped else [])]
    options += [f"dropout {call.dropout:g}"] if call.dropout else []
    shapes = [f"{name} {shape}" for name, shape in (("q", call.q), ("k", call.k), ("v", call.v))]
    return [*shapes, f"{call.dtype}, last strides {call.last_strides}", ", ".join(options)]


def _ops(sides: Sequence[Observation]) -> Iterator[str]:
    if not all(side.steps for side in sides):
        yield "  compiled code does not tell; the times below name what ran"
        return
    base, head = sides[0], sides[-1]
    matcher = SequenceMatcher(None, [s.op for s in base.steps], [s.op for s in head.steps], autojunk=False)
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        length = max(i_end - i, j_end - j)
        for k in range(length):
            left = i + k if i + k < i_end else None
            right = j + k if j + k < j_end else None
            if tag == "equal" and len(sides) == 2 and CONTEXT <= k < length - CONTEXT:
                if k == CONTEXT:
                    yield f"    ... {length - 2 * CONTEXT} ops alike"
                continue
            mark = " " if tag == "equal" else "*"
            cells = [_step(base, left), *([_step(head, right)] if len(sides) == 2 else [])]
            yield f"  {mark} " + "  ".join(cells)


def _step(side: Observation, index: int | None) -> str:
    if index is None:
        return " " * (_NAME + 16)
    step = side.steps[index]
    arrow = "<" if side.backward_at is not None and index >= side.backward_at else ">"
    return f"{index + 1:4d} {arrow} {_short(step.op):<{_NAME}.{_NAME}} {step.live_bytes / 2**20:8.2f}"


def _memory(side: Observation) -> Iterator[str]:
    name = side.label.partition(":")[0]
    if not side.steps:
        yield f"  {name}: peak {mebibytes(side.fingerprint.peak_bytes)}"
        return
    live = [step.live_bytes for step in side.steps]
    highest = max(*live, 1)
    buckets = min(_BARS, len(live))
    bars = [max(live[i * len(live) // buckets : (i + 1) * len(live) // buckets]) for i in range(buckets)]
    yield f"  {name} |{''.join(_LEVELS[-(-level * 8 // highest)] for level in bars)}| {mebibytes(highest)}"
    peak = 0
    grown = []
    for i, step in enumerate(side.steps):
        if step.live_bytes > peak:
            peak = step.live_bytes
            grown.append(f"{i + 1} {_short(step.op)} {mebibytes(peak)}")
    more = f"{len(grown) - 4} earlier steps, " if len(grown) > 4 else ""
    told = f"its peak grew at {more}{', '.join(grown[-4:])}"
    yield from wrap(told, WIDTH, initial_indent=" " * 7, subsequent_indent=" " * 9)


def _short(op: str) -> str:
    return op.removeprefix("aten.").replace("_scaled_dot_product_", "_sdp_").replace("_attention", "")


def _times(sides: Sequence[Observation]) -> Iterator[str]:
    by_op = [{time.op: time for time in side.times} for side in sides]
    slowest = sorted({op for ops in by_op for op in ops}, key=lambda op: -max(_self_us(ops, op) for ops in by_op))
    yield f"  {'':<44}" + "".join(f"{side.label.partition(':')[0]:>12}{'calls':>7}" for side in sides)
    for op in slowest[:SLOWEST]:
        cells = "".join(f"{ops[op].self_us:12.1f}{ops[op].calls:7d}" if op in ops else f"{'-':>19}" for ops in by_op)
        yield f"  {_short(op):<44.44}{cells}"
    yield f"  {'together':<44}" + "".join(f"{sum(t.self_us for t in ops.values()):12.1f}{'':7}" for ops in by_op)


def _self_us(times: dict[str, OpTime], op: str) -> float:
    return times[op].self_us if op in times else 0.0
