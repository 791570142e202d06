"""What the two write-ups say, as data: every figure of their tables, where it was taken, and where it is found here."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

from .results import CLOSE, DIFFERENCE, MEAN_DIFFERENCE, PAIRED_NS, PEAK_BYTES, PROTOCOL_NS

BY_HAND, PYTORCH, COMPILED = "by hand", "PyTorch", "compiled"
FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA = "by hand, fused", "SDPA, fused", "SDPA, head by head"

CONSTANT, EARLY, MEAN = "masking constant", "early clock", "plain mean"  # the faults of its code
BLOCK = 50  # runs of which the plain mean is shown

TINY = "b4h1t8d10-causal-fp32-fwd"  # batch 4, context 8, embedding dimension 10, one head
LARGE = "b32h1t1024d64-causal-fp32-fwd"  # "large matrices": the write-up names no size
TINY_REPETITIONS, LARGE_REPETITIONS = 50_000, 200
WARMUPS, RUNS = 50, 500  # of its second protocol: 50, and 500 to 1000
# The second write-up names neither batch nor head size for its tables, nor heads and form for the last two. A CPU gets
# a smaller batch, so that by hand in FP16 fits the time.
BATCH = {"cpu": 1, "cuda": 8}
HEADS, HEAD_SIZE = 8, 64
TOKENS = (128, 512, 1024)
HEAD_COUNTS = (4, 8, 16)
BATCHES = (1, 8, 32)
DTYPES = ("fp32", "fp16")


def multihead(tokens: int, heads: int, batch: int, dtype: str) -> str:
    """Name a case of the multi-head matrix."""
    return f"b{batch}h{heads}t{tokens}d{HEAD_SIZE}-causal-{dtype}-fwd"


def of_tables(tokens: int, heads: int = HEADS) -> dict[str, str]:
    """Name a case of tables B1 to B3, by device."""
    return {device: multihead(tokens, heads, batch, "fp16") for device, batch in BATCH.items()}


def everywhere(case: str) -> dict[str, str]:
    """The same case on every device."""
    return dict.fromkeys(BATCH, case)


@dataclass(frozen=True)
class Row:
    """One figure of the study. ``figure`` is in ``unit``; NaN where it says a range or a word, which ``says`` holds.

    ``device`` is what it was taken on, ``cases`` what stands for it here, by device. A value measured here is shown
    times ``scale``, in ``unit``; ``quantity`` is taken our way, ``protocol`` the study's, None where that is the same.
    """

    table: str
    label: str
    figure: float
    unit: str
    device: str
    subject: str
    cases: Mapping[str, str]
    scale: float
    quantity: str = PAIRED_NS
    protocol: str | None = PROTOCOL_NS
    says: str = ""

    @property
    def statement(self) -> str:
        """The study's figure as it is shown."""
        return self.says or f"{self.figure:g} {self.unit}"


@dataclass(frozen=True)
class Table:
    """A table of the study: what it is about, and how it was measured there and here."""

    name: str
    title: str
    note: str


TABLES = (
    Table(
        "A1",
        "Accuracy of attention by hand",
        "Batch 4, context 8, vocabulary 40, embedding dimension 10: random tokens, an embedding and three linear "
        "layers, drawn anew each time. Here: the mean and the largest difference of each draw.",
    ),
    Table(
        "A2",
        "The tiny configuration, 50,000 repetitions",
        "The study's protocol: 50,000 calls one after another. Ours: short bursts of every form in random order, "
        "the median scaled to 50,000 calls. Q, K and V are made once; both forms get them in three dimensions, as "
        "there; kernels get a fourth, for the head.",
    ),
    Table(
        "A3",
        "Large matrices, 200 repetitions",
        "The write-up names no size: here batch 32, one head, 1024 tokens, head size 64, causal, FP32. Where 200 calls "
        "do not fit the time, fewer are scaled to 200.",
    ),
    Table(
        "A4",
        "Warm-up",
        "The first calls of a fresh process, each timed alone; batch 1, 8 heads, 128 tokens, head size 64. "
        "Loading torch is not counted.",
    ),
    Table(
        "B1",
        "Multi-head attention by number of heads",
        "512 tokens, FP16. The write-up names neither batch nor head size: here head size 64, and batch 8 on a GPU, 1 "
        "on a CPU. The study's protocol: 50 warm-ups, 500 runs, mean without outliers, or as many as fit the time.",
    ),
    Table(
        "B2",
        "Time by context length",
        "FP16. The write-up does not say of which form: here SDPA with fused projections, 8 heads, head size "
        "64, batch 8 on a GPU, 1 on a CPU.",
    ),
    Table(
        "B3",
        "Memory by context length",
        "FP16, SDPA with fused projections, 8 heads, head size 64, batch 8 on a GPU, 1 on a CPU. Here the peak that "
        "one call adds: on a GPU what the allocator tells, on a CPU the live bytes of its tensors. Both are counted: "
        "they have no interval.",
    ),
)

ROWS = (
    *(
        Row(
            *("A1", f"{which} difference, by hand and PyTorch", nan, "", "cpu", BY_HAND, everywhere(TINY), 1.0),
            quantity=quantity,
            protocol=None,
            says="1e-9 to 1e-8",
        )
        for which, quantity in (("mean", MEAN_DIFFERENCE), ("largest", DIFFERENCE))
    ),
    Row(
        *("A1", "share of draws in which torch.allclose holds", nan, "", "cpu", BY_HAND, everywhere(TINY), 1.0),
        quantity=CLOSE,
        protocol=None,
        says="holds",
    ),
    Row("A2", "by hand", 7.0, "s", "cpu", BY_HAND, everywhere(TINY), TINY_REPETITIONS * 1e-9),
    Row("A2", "PyTorch", 6.5, "s", "cpu", PYTORCH, everywhere(TINY), TINY_REPETITIONS * 1e-9),
    Row("A3", "by hand", 4.5, "s", "cuda", BY_HAND, everywhere(LARGE), LARGE_REPETITIONS * 1e-9),
    Row("A3", "PyTorch", 9.0, "s", "cuda", PYTORCH, everywhere(LARGE), LARGE_REPETITIONS * 1e-9),
    Row("A3", "compiled", 0.05, "s", "cuda", COMPILED, everywhere(LARGE), LARGE_REPETITIONS * 1e-9),
    *(
        Row("B1", f"{heads} heads, {label}", figure, "ms", "cuda", subject, of_tables(512, heads), 1e-6)
        for heads, figures in ((4, (2.3, 0.9)), (8, (4.1, 1.5)), (16, (7.8, 2.7)))
        for label, subject, figure in zip(("custom", "SDPA"), (FUSED_BY_HAND, FUSED_SDPA), figures, strict=True)
    ),
    *(
        Row("B2", f"{tokens} tokens", figure, "ms", "cuda", FUSED_SDPA, of_tables(tokens), 1e-6)
        for tokens, figure in zip(TOKENS, (0.4, 1.5, 5.9), strict=True)
    ),
    *(
        Row(
            *("B3", f"{tokens} tokens", figure, "MB", "cuda", FUSED_SDPA, of_tables(tokens), 1e-6),
            quantity=PEAK_BYTES,
            protocol=None,
        )
        for tokens, figure in zip(TOKENS, (200, 700, 2300), strict=True)
    ),
)


def figures_by_tokens(table: str) -> dict[int, float]:
    """The study's own figures of a table that goes by context length."""
    return {tokens: row.figure for tokens, row in zip(TOKENS, (r for r in ROWS if r.table == table), strict=True)}
