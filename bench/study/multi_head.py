"""Tables B1 to B3, and the matrix: multi-head attention by heads, context length and memory."""

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from math import sqrt

import torch

from ..checking import compilation
from ..checking.fingerprint import fingerprint
from .published import (
    BATCHES,
    DTYPES,
    FUSED_BY_HAND,
    FUSED_SDPA,
    HEAD_COUNTS,
    LOOP_SDPA,
    RUNS,
    TOKENS,
    WARMUPS,
    multihead,
    of_tables,
)
from .results import PEAK_BYTES, PROTOCOL_NS, Series
from .sampling import protocol
from .setting import Entry, Part, Setting, entry, one_by_one, time_rounds
from .subjects import Subjects, flops, parse

FORMS = (FUSED_BY_HAND, FUSED_SDPA)


def parts(device: str, subjects: Subjects) -> list[Part]:  # noqa: ARG001  # every table's parts are asked alike
    """Name the parts of tables B1 to B3, and one for each entry of the matrix, the smallest first."""
    matrix = sorted(
        (multihead(t, h, b, dtype) for dtype, b, t, h in product(DTYPES, BATCHES, TOKENS, HEAD_COUNTS)),
        key=lambda name: ("fp16" in name, flops(parse(name, device, module=True))),
    )
    return [
        *(Part(f"B1 {heads} heads", device, 14, partial(by_heads, heads)) for heads in HEAD_COUNTS),
        Part("B2", device, 50, by_tokens),
        Part("B3", device, 16, memory),
        *(Part(f"B {name}", device, _weight(name, device), partial(one_case, name)) for name in matrix),
    ]


def _weight(name: str, device: str) -> float:
    """Give larger entries more time, from 1 upwards, though not in proportion."""
    least = flops(parse(multihead(min(TOKENS), min(HEAD_COUNTS), min(BATCHES), DTYPES[0]), device, module=True))
    return sqrt(sqrt(flops(parse(name, device, module=True)) / least))


def by_heads(heads: int, setting: Setting) -> Iterator[Series]:
    """B1: by hand against SDPA at 512 tokens in FP16, in rounds and by the study's protocol."""
    case = setting.case(of_tables(512, heads)[setting.device], module=True)
    yield from _both_ways([entry("B1", form, case, setting.subjects) for form in FORMS], setting)


def by_tokens(setting: Setting) -> Iterator[Series]:
    """B2: both forms at every context length, all in the same rounds, so that an exponent can be fitted to each."""
    cases = [setting.case(of_tables(tokens)[setting.device], module=True) for tokens in TOKENS]
    entries = [entry("B2", form, case, setting.subjects) for case in cases for form in FORMS]
    yield from _both_ways(entries, setting)


def one_case(name: str, setting: Setting) -> list[Series]:
    """One entry of the matrix: by hand against SDPA, and SDPA head by head."""
    case = setting.case(name, module=True)
    return time_rounds([entry("B", form, case, setting.subjects) for form in (*FORMS, LOOP_SDPA)], setting)


def _both_ways(entries: list[Entry], setting: Setting) -> Iterator[Series]:
    half = replace(setting, budget_s=setting.budget_s / 2)
    yield from time_rounds(entries, half)
    with torch.no_grad():
        for each, work in one_by_one(entries, half, PROTOCOL_NS):
            budget_s = half.budget_s / len(entries)
            if isinstance(work, Series):
                yield work
            else:
                yield each.series(PROTOCOL_NS, protocol(work.work, setting.clock, WARMUPS, RUNS, budget_s))


def memory(setting: Setting) -> Iterator[Series]:
    """B3: the peak that one call adds to the memory in use, of both forms."""
    cases = [setting.case(of_tables(tokens)[setting.device], module=True) for tokens in TOKENS]
    yield from peaks([entry("B3", form, case, setting.subjects) for case in cases for form in FORMS], setting)


def peaks(entries: Iterable[Entry], setting: Setting) -> Iterator[Series]:
    """Measure the peak of each entry's call."""
    for each, work in one_by_one(entries, setting, PEAK_BYTES):
        if isinstance(work, Series):
            yield work
        else:
            with torch.set_grad_enabled(each.case.backward):
                yield each.series(PEAK_BYTES, [float(peak_bytes(work.work, setting.device))])


def peak_bytes(call: Callable[[], object], device: str) -> int:
    """Tell the peak of bytes that one call adds: by the allocator on a GPU, by its tensors' storages on a CPU."""
    if device != "cuda":
        compilation.forget()  # what compiled it is watched in another way, and told by its compiling
        counted = compilation.counters()
        call()
        return fingerprint(call, compiled=compilation.counters().since(counted)).peak_bytes
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
