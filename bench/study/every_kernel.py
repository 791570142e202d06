"""What the write-ups left out, of every kernel and module: growth with context, backward pass, memory, error."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

import attention

from ..cases import DTYPES
from ..checking import drift
from ..sides.workload import build
from .multi_head import peaks
from .published import BY_HAND, FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA
from .results import ERROR, Series
from .setting import Entry, Part, Setting, entry, one_by_one, time_rounds
from .subjects import Subjects, parse

SCALING_TOKENS = (64, 128, 256, 512, 1024, 2048)
SCALING = "b1h8t{tokens}d64-causal-fp32-fwd"
ONE = "b1h8t512d64-{mask}-{dtype}-{direction}"
DTYPES_OF_ERRORS = ("fp32", "bf16", "fp16")


def parts(device: str, subjects: Subjects) -> list[Part]:
    """Name the parts: growth of each kernel, and of memory; both directions of each; speed and error in each dtype."""
    kernels = subjects.kernels
    modules = [FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, *(n for n in attention.MODULES if n not in ("mha", "mhaloop"))]
    return [
        *(Part(f"growth of {name}", device, 6, partial(growth, name)) for name in kernels),
        *(Part(f"memory of {name}", device, 1, partial(memory, name)) for name in kernels),
        *(Part(f"directions of {name}", device, 2, partial(directions, name, module=False)) for name in kernels),
        *(Part(f"directions of module {name}", device, 2, partial(directions, name, module=True)) for name in modules),
        *(Part(f"error {dtype}", device, 8, partial(speed_and_error, dtype)) for dtype in DTYPES_OF_ERRORS),
    ]


def _growing(part: str, subject: str, setting: Setting) -> list[Entry]:
    """The subject at every context length; without the causal mask where it knows none."""
    mask = setting.subjects.mask_for(subject)
    names = [SCALING.format(tokens=tokens).replace("causal", mask) for tokens in SCALING_TOKENS]
    return [entry(part, subject, setting.case(name), setting.subjects) for name in names]


def growth(subject: str, setting: Setting) -> list[Series]:
    """Time one kernel at every context length, all in the same rounds."""
    return time_rounds(_growing("growth", subject, setting), setting)


def memory(subject: str, setting: Setting) -> Iterator[Series]:
    """Measure one kernel's peak of memory at every context length."""
    yield from peaks(_growing("memory", subject, setting), setting)


def directions(subject: str, setting: Setting, *, module: bool) -> list[Series]:
    """Time one subject forward, and forward and backward, in the same rounds."""
    mask = "causal" if module else setting.subjects.mask_for(subject)
    names = [ONE.format(mask=mask, dtype="fp32", direction=direction) for direction in ("fwd", "fwdbwd")]
    part = "module directions" if module else "directions"
    entries = [entry(part, subject, setting.case(name, module=module), setting.subjects) for name in names]
    return time_rounds(entries, setting)


def speed_and_error(dtype: str, setting: Setting) -> Iterator[Series]:
    """Time every kernel on the same full attention, in the same rounds, and hold its output to the float64 oracle."""
    case = parse(ONE.format(mask="full", dtype=dtype, direction="fwd"), setting.device)
    entries = [entry("error", name, case, setting.subjects) for name in setting.subjects.kernels]
    yield from time_rounds(entries, setting)
    workload = build(replace(case, subject=BY_HAND), setting.subjects.side())
    exact = drift.oracle(workload)["out"]
    assert exact.dtype == torch.float64
    assert workload.case.dtype in DTYPES
    for each, work in one_by_one(entries, setting, ERROR):
        if isinstance(work, Series):
            yield work
        else:
            with torch.no_grad():
                out = each.make().forward()
            yield each.series(ERROR, [float((out.double() - exact).abs().max())])
