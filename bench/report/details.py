"""The details of a case as tables: the error of each tensor, how often it was timed, what ran on both sides."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from ..judging.fingerprint_diff import mebibytes
from ..judging.roofline import achieved
from ..judging.verdict import CaseResult
from ..plain.evidence import TensorError
from ..plain.execution import Calls, Ceiling, Fingerprint
from .text import COLUMNS, duration, of_host

NOISE = {f"calls {field.name}" for field in fields(Calls) if not field.compare}  # differs without any change


@dataclass(frozen=True)
class Cells:
    """One row: what it is, its values, and whether it stands out."""

    name: str
    values: tuple[str, ...]
    changed: bool = False


@dataclass(frozen=True)
class Facts:
    """One table; ``flag`` is the word beside a row that stands out."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Cells, ...]
    flag: str = ""


def details(case: CaseResult, ceilings: Sequence[Ceiling] = ()) -> tuple[Facts, ...]:
    """Collect every table that has rows; a new kind of fact is one more function here."""
    tables = (*_errors(case), *_timed(case), *_host(case), *_speed(case, ceilings))
    tables += tuple(executed(case.base_fingerprint, case.head_fingerprint))
    return tuple(table for table in tables if table.rows)


def _errors(case: CaseResult) -> Iterator[Facts]:
    columns = (
        "tensor",
        "largest error",
        "budget",
        "share",
        "base's",
        "naive's",
        "RMS error",
        "its budget",
        "head = base",
    )
    yield Facts("Errors against the float64 oracle", columns, tuple(map(_error, case.errors)), flag="over its budget")


def _error(error: TensorError) -> Cells:
    equal = {True: "bit for bit", False: "no", None: "-"}[error.bit_equal]
    figures = (error.head, error.budget, error.base, error.naive, error.rms, error.rms_budget)
    head, budget, base, naive, rms, rms_budget = ("-" if figure is None else f"{figure:.3g}" for figure in figures)
    values = (head, budget, f"{error.share:.0%}", base, naive, rms, rms_budget, equal)
    return Cells(error.name, values, changed=bool(error.complaints))


def _timed(case: CaseResult) -> Iterator[Facts]:
    names = ("first", "again, on fresh inputs")
    rows = (
        Cells(name, (str(len(m.pairs)), str(m.calls_per_burst), str(m.warmup_rounds), f"{m.seconds:.2f}"))
        for name, m in zip(names, case.measurements, strict=False)
    )
    yield Facts(
        "Measurements", ("measurement", "pairs", "calls a burst", "rounds of warming up", "seconds"), tuple(rows)
    )


def _host(case: CaseResult) -> Iterator[Facts]:
    if (host := case.host) is not None:
        cells = dict(zip(COLUMNS, of_host(case) or (), strict=False))
        values = {"base": duration(host.base_ns), "head": duration(host.head_ns)}
        values |= {name: cells[name] for name in ("verdict", "ratio", "interval", "pairs") if name in cells}
        row = Cells("host, a call", tuple(values.values()))
        yield Facts("Time beside the device's", ("property", *values), (row,))


def _speed(case: CaseResult, ceilings: Sequence[Ceiling]) -> Iterator[Facts]:
    speed = achieved(case.work, case.head_ns, ceilings)
    if speed is not None:
        figures = {"GFLOP/s": f"{speed.gflops_per_s:.3g}", "GB/s": f"{speed.gbytes_per_s:.3g}"}
        if speed.share is not None:
            figures["roofline"] = f"{speed.share:.0%} of what its {speed.bound} allow"
        rows = tuple(Cells(name, (text,)) for name, text in figures.items())
        yield Facts("Speed of the head", ("property", "value"), rows)


def executed(base: Fingerprint | None, head: Fingerprint | None) -> Iterator[Facts]:
    """Put both fingerprints side by side: first single values in one table, then each mapping in one of its own."""
    sides = [{} if p is None else flatten(p) for p in (base, head)]
    mappings = [name for name in {**sides[0], **sides[1]} if any(isinstance(s.get(name), Mapping) for s in sides)]
    single = ({name: value for name, value in side.items() if name not in mappings} for side in sides)
    yield _beside("What ran", "property", *single, label=_label)
    for name in mappings:
        yield _beside(f"What ran: {_label(name)}", "name", *(side.get(name) or {} for side in sides))


def flatten(value: object, name: str = "") -> dict[str, Any]:
    """Return the values of nested dataclasses under their joined names; several of a kind are numbered from 1."""
    if is_dataclass(value):
        inner = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, tuple) and any(map(is_dataclass, value)):
        inner = {str(number): one for number, one in enumerate(value, start=1)}
    else:
        return {name: value}
    flat = (flatten(one, f"{name} {part}".strip()) for part, one in inner.items())
    return {path: one for found in flat for path, one in found.items()}


def _beside(
    title: str,
    heading: str,
    base: Mapping[str, object],
    head: Mapping[str, object],
    *,
    label: Callable[[str], str] = str,
) -> Facts:
    rows = tuple(
        Cells(
            label(name),
            tuple(write(name, side[name]) if name in side else "-" for side in (base, head)),
            changed=bool(base) and name not in NOISE and base.get(name) != head.get(name),
        )
        for name in {**base, **head}
        if any(side.get(name) not in (None, ()) for side in (base, head))
    )
    return Facts(title, (heading, "base", "head"), rows, flag="changed")


def write(name: str, value: object) -> str:
    """Write a plain value; one whose name ends in ``_bytes`` is written as a size."""
    if value in (None, ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("_bytes"):
        return mebibytes(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _label(name: str) -> str:
    return name.removesuffix("_bytes").replace("_", " ")
