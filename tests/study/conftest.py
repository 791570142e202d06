"""Results of a study written small, for tests of what judges and shows them."""

from collections.abc import Callable, Sequence

import pytest

from bench.study.published import (
    BATCH,
    BY_HAND,
    COMPILED,
    FUSED_BY_HAND,
    FUSED_SDPA,
    HEADS,
    LARGE,
    PYTORCH,
    TINY,
    TOKENS,
    multihead,
)
from bench.study.results import Quantity, Results, Series
from bench.study.subjects import case_of

ROUNDS = 20


def around(value: float) -> tuple[float, ...]:
    """Values a little around one, as rounds give them."""
    return tuple(value * (1 + 0.001 * (i % 5 - 2)) for i in range(ROUNDS))


@pytest.fixture(scope="session")
def found() -> Callable[..., Results]:
    """Results on one device: by hand slower than PyTorch by ``hand``, time growing as T^``growth``."""

    def make(device: str = "cpu", hand: float = 2.0, growth: float = 2.0) -> Results:
        series: list[Series] = []

        def add(part: str, subject: str, case: str, quantity: Quantity, values: Sequence[float]) -> None:
            series.append(Series(part, case_of(subject, case, device), quantity, tuple(values)))

        add("A1", BY_HAND, TINY, Quantity.MEAN_DIFFERENCE, around(5e-9))
        add("A1", BY_HAND, TINY, Quantity.DIFFERENCE, around(5e-8))
        add("A1", BY_HAND, TINY, Quantity.CLOSE, [1.0] * ROUNDS)
        for quantity in (Quantity.PAIRED_NS, Quantity.PROTOCOL_NS):
            add("A2", BY_HAND, TINY, quantity, around(1000.0 * hand))
            add("A2", PYTORCH, TINY, quantity, around(1000.0))
            add("A3", BY_HAND, LARGE, quantity, around(1e6 * hand))
            add("A3", PYTORCH, LARGE, quantity, around(1e6))
            add("A3", COMPILED, LARGE, quantity, around(1e4 * hand))
        for _ in range(8):
            add("A4", BY_HAND, "b1h8t128d64-causal-fp32-fwd", Quantity.CALL_NS, [5e6] + [1e6] * 29)
        for subject, factor in ((FUSED_BY_HAND, hand), (FUSED_SDPA, 1.0)):
            for heads in (4, 8, 16):
                for quantity in (Quantity.PAIRED_NS, Quantity.PROTOCOL_NS):
                    add("B1", subject, multihead(512, heads, BATCH[device]), quantity, around(1e6 * factor))
            for tokens in TOKENS:
                case = multihead(tokens, HEADS, BATCH[device])
                for quantity in (Quantity.PAIRED_NS, Quantity.PROTOCOL_NS):
                    add("B2", subject, case, quantity, around(factor * tokens**growth))
                add("B3", subject, case, Quantity.PEAK_BYTES, [float(tokens**2)])
                add("memory", subject, case, Quantity.PEAK_BYTES, [float(tokens**2)])
                add("growth", subject, case, Quantity.PAIRED_NS, around(factor * tokens**growth))
            add("error", subject, "b1h8t512d64-full-fp32-fwd", Quantity.PAIRED_NS, around(1e6 * factor))
            add("error", subject, "b1h8t512d64-full-fp32-fwd", Quantity.ERROR, [1e-7 * factor])
        return Results(tuple(series))

    return make
