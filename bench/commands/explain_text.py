"""The text of ``python -m bench explain``: two observations of one case, side by side. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from textwrap import wrap

from ..judging.fingerprint_diff import compare, mebibytes
from ..plain.execution import Cost, Observed, OpTime
from ..report.details import Cells, executed

WIDTH = 110
CONTEXT = 2  # ops shown on each side of a difference; longer stretches without one are folded
SLOWEST = 12  # rows of the table of times
_NAME, _BARS = 34, 64  # columns
_LEVELS = " ▁▂▃▄▅▆▇█"


def explain(case_id: str, origins: Mapping[str, str], seen: Mapping[str, Observed], work: Cost) -> str:
    """Write everything that was seen, by side; there is no ``base`` where the base does not have the case."""
    sides = list(seen.values())
    heading = [f"  {name}: {origins[name]}" for name in seen]
    lines = [case_id, *heading, "", *_verdict(seen.get("base"), seen["head"]), ""]
    lines += [*_facts(seen), f"  {'work':<28}{work.flops / 1e9:.4g} GFLOP, {mebibytes(work.moved_bytes)} to move", ""]
    lines += ["ops in order, with the MiB alive after each", *_ops(sides), ""]
    lines += ["memory over the call", *(line for name in seen for line in _memory(name, seen[name])), ""]
    lines += ["time by op, in us a call (torch.profiler, which slows small ops)", *_times(seen)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _verdict(base: Observed | None, head: Observed) -> Iterator[str]:
    changes, notes = compare(None if base is None else base.fingerprint, head.fingerprint)
    for kind, phrases in (("CHANGED", changes), ("note", notes)):
        for phrase in phrases:
            yield from wrap(phrase, WIDTH, initial_indent=f"  {kind:<9}", subsequent_indent=" " * 11)
    if base is None:
        yield "  not in the base: nothing to compare with"
    elif not changes and not notes:
        yield "  the same on both sides"


def _facts(seen: Mapping[str, Observed]) -> Iterator[str]:
    prints = [side.fingerprint for side in seen.values()]
    table = next(executed(prints[0] if len(prints) == 2 else None, prints[-1]))
    ops = Cells("ops", tuple(str(sum(one.ops.values())) for one in prints))
    width = 76 // len(seen)
    for row in (Cells("", tuple(seen)), ops, *table.rows):
        cells = "".join(f"{value:<{width}.{width - 2}}" for value in row.values[-len(seen) :])
        yield f"  {row.name:<28}{cells}{table.flag if row.changed else ''}"


def _ops(sides: Sequence[Observed]) -> Iterator[str]:
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


def _step(side: Observed, index: int | None) -> str:
    if index is None:
        return " " * (_NAME + 16)
    step = side.steps[index]
    arrow = "<" if side.backward_at is not None and index >= side.backward_at else ">"
    return f"{index + 1:4d} {arrow} {_short(step.op):<{_NAME}.{_NAME}} {step.live_bytes / 2**20:8.2f}"


def _memory(name: str, side: Observed) -> Iterator[str]:
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


def _times(seen: Mapping[str, Observed]) -> Iterator[str]:
    by_op = [{time.op: time for time in side.times} for side in seen.values()]
    slowest = sorted({op for ops in by_op for op in ops}, key=lambda op: -max(_self_us(ops, op) for ops in by_op))
    yield f"  {'':<44}" + "".join(f"{name:>12}{'calls':>7}" for name in seen)
    for op in slowest[:SLOWEST]:
        cells = "".join(f"{ops[op].self_us:12.1f}{ops[op].calls:7d}" if op in ops else f"{'-':>19}" for ops in by_op)
        yield f"  {_short(op):<44.44}{cells}"
    yield f"  {'together':<44}" + "".join(f"{sum(t.self_us for t in ops.values()):12.1f}{'':7}" for ops in by_op)


def _self_us(times: dict[str, OpTime], op: str) -> float:
    return times[op].self_us if op in times else 0.0
