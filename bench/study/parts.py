"""The parts of the study: what is measured of which subjects on which cases, and in what share of the time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from ..suite.cases import Case
from . import published as study
from .measuring import Setting, both_ways, flops, peaks, time_rounds
from .published import BY_HAND, FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, multihead
from .results import Series
from .subjects import PYTORCH_4D, case_of, mask_for
from .tasks import accuracy, first_calls, speed_and_error

LONG_KERNELS = ("blockwise", "sdpa")  # without a score matrix, and not limited to a window

Measure = Callable[[Sequence[Case], Setting], Iterable[Series]]


@dataclass(frozen=True)
class Part:
    """A piece of the study that is measured in one go; ``weight`` is its share of the time."""

    name: str
    weight: float
    cases: Sequence[Case]
    measure: Measure

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys((self.name, *(case.subject for case in self.cases))))


def parts(device: str, kernels: Sequence[str]) -> list[Part]:
    """Every part on a device, the largest last: earlier times say which later cases take too long."""

    def part(name: str, weight: float, subjects: Iterable[str], cases: Iterable[str], measure: Measure) -> Part:
        return Part(name, weight, [case_of(s, case, device) for case, s in product(cases, subjects)], measure)

    return [*_of_every_kernel(part, kernels), *_of_one_head(part, device, kernels), *_of_many_heads(part, device)]


def _of_every_kernel(part: Callable[..., Part], kernels: Sequence[str]) -> list[Part]:
    """What the write-ups left out: growth, memory, backward pass, error and long context of every kernel."""
    masks = {name: mask_for(name) for name in (*kernels, FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, "block")}
    growing = {name: [f"b1h8t{n}d64-{masks[name]}-fp32-fwd" for n in study.SCALING_TOKENS] for name in kernels}
    both = {name: [f"b1h8t512d64-{mask}-fp32-{way}" for way in ("fwd", "fwdbwd")] for name, mask in masks.items()}
    long = [name for name in LONG_KERNELS if name in kernels]
    return [
        *(part("growth", 6, [name], growing[name], time_rounds) for name in kernels),
        *(part("memory", 1, [name], growing[name], peaks) for name in kernels),
        *(part("directions", 2, [name], both[name], time_rounds) for name in both),
        *(
            part("error", 8, kernels, [f"b1h8t512d64-full-{dtype}-fwd"], speed_and_error)
            for dtype in study.ERROR_DTYPES
        ),
        *(part("long context", 36, [name], ["b1h1t32768d32-causal-fp32-fwdbwd"], peaks) for name in long),
    ]


def _of_one_head(part: Callable[..., Part], device: str, kernels: Sequence[str]) -> list[Part]:
    """Tables A1 to A4, of a single head; A2 is measured on a CPU alone."""
    again = partial(both_ways, runs=study.NOTED)
    tiny = partial(again, calls=study.TINY_REPETITIONS // study.NOTED)
    large = partial(again, calls=study.LARGE_REPETITIONS // study.NOTED)
    studied = [name for name in (BY_HAND, study.PYTORCH, study.COMPILED) if name in kernels]
    return [
        part("A1", 2, kernels, [study.TINY], accuracy),
        *([part("A2", 24, [*kernels[:2], PYTORCH_4D, *kernels[2:]], [study.TINY], tiny)] if device == "cpu" else []),
        part("A3", 30, studied, [study.LARGE], large),
        # The claim of A4 is judged by hand, which gets the time for as many processes as an interval needs.
        *(
            part("A4", 35 if name == BY_HAND else 5, [name], [f"b1h8t128d64-{mask_for(name)}-fp32-fwd"], first_calls)
            for name in kernels
        ),
    ]


def _of_many_heads(part: Callable[..., Part], device: str) -> list[Part]:
    """Tables B1 to B3, and the whole matrix, the smallest case first."""
    forms, batch = (FUSED_BY_HAND, FUSED_SDPA), study.BATCH[device]
    by_tokens = [multihead(tokens, study.HEADS, batch) for tokens in study.TOKENS]
    sizes = product(study.TOKENS, study.HEAD_COUNTS, study.BATCHES, study.DTYPES)
    matrix = {name: flops(case_of(FUSED_SDPA, name, device)) for name in (multihead(*size) for size in sizes)}
    protocol = partial(both_ways, warmups=study.WARMUPS, runs=study.RUNS)
    return [
        *(part("B1", 14, forms, [multihead(512, heads, batch)], protocol) for heads in study.HEAD_COUNTS),
        part("B2", 50, forms, by_tokens, protocol),
        part("B3", 16, forms, by_tokens, peaks),
        *(
            # A larger case gets more time, though not in proportion.
            part("B", (matrix[name] / min(matrix.values())) ** 0.25, (*forms, LOOP_SDPA), [name], time_rounds)
            for name in sorted(matrix, key=lambda name: ("fp16" in name, matrix[name]))
        ),
    ]
