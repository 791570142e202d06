"""What the two write-ups say, as data: every figure of their tables, where it was taken, and where it is found here."""

from collections.abc import Mapping
from dataclasses import dataclass

from .results import Quantity

BY_HAND, PYTORCH, COMPILED = "by hand", "PyTorch", "compiled"
FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA = "by hand, fused", "SDPA, fused", "SDPA, head by head"
DEVICES = {"cpu": "CPU", "cuda": "GPU"}

TINY = "b4h1t8d10-causal-fp32-fwd"  # batch 4, context 8, embedding dimension 10, one head
LARGE = "b32h1t1024d64-causal-fp32-fwd"  # "large matrices": the write-up names no size
TINY_REPETITIONS, LARGE_REPETITIONS = 50_000, 200
NOTED = 100  # times in which repetitions are noted
WARMUPS, RUNS = 50, 500  # of its second protocol: 50, and 500 to 1000
SETTLED_FROM = 10  # calls of a fresh process; those before it are the warm-up

# The second write-up names neither batch nor head size for its tables, nor heads and form for the last two. A CPU gets
# a smaller batch, so that by hand in FP16 fits the time.
BATCH = {"cpu": 1, "cuda": 8}
HEADS, HEAD_SIZE = 8, 64
BATCHES, TOKENS, HEAD_COUNTS, DTYPES = (1, 8, 32), (128, 512, 1024), (4, 8, 16), ("fp32", "fp16")
SCALING_TOKENS = (64, 128, 256, 512, 1024, 2048)  # by us, of every kernel
ERROR_DTYPES = ("fp32", "bf16", "fp16")
HEADS_MS = {FUSED_BY_HAND: {4: 2.3, 8: 4.1, 16: 7.8}, FUSED_SDPA: {4: 0.9, 8: 1.5, 16: 2.7}}
TOKENS_MS = {128: 0.4, 512: 1.5, 1024: 5.9}
TOKENS_MB = {128: 200.0, 512: 700.0, 1024: 2300.0}


@dataclass(frozen=True)
class Table:
    """Title, a note, and cells of text; ``marks`` gives each row's verdict where rows have one."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()
    marks: tuple[str, ...] = ()


def multihead(tokens: int, heads: int, batch: int, dtype: str = "fp16") -> str:
    """Name a case of the multi-head matrix; tables B1 to B3 are about FP16."""
    return f"b{batch}h{heads}t{tokens}d{HEAD_SIZE}-causal-{dtype}-fwd"


@dataclass(frozen=True)
class Figures:
    """The study's figures of a table: the device that they are about, and each row's, named as by ``tables.label``.

    A value measured here times ``scale`` is in ``unit``.
    """

    device: str
    rows: Mapping[str, str]
    scale: float = 1.0
    unit: str = ""


_ACCURACY = {Quantity.MEAN_DIFFERENCE: "1e-9 to 1e-8", Quantity.DIFFERENCE: "1e-9 to 1e-8", Quantity.CLOSE: "holds"}
_HEADS = {f"{form}, {n} heads": f"{HEADS_MS[form][n]} ms" for n in HEAD_COUNTS for form in HEADS_MS}
FIGURES = {
    "A1": Figures("cpu", {f"{quantity}, {BY_HAND}": figure for quantity, figure in _ACCURACY.items()}),
    "A2": Figures("cpu", {BY_HAND: "7 s", PYTORCH: "6.5 s"}, TINY_REPETITIONS * 1e-9, " s"),
    "A3": Figures("cuda", {BY_HAND: "4.5 s", PYTORCH: "9 s", COMPILED: "0.05 s"}, LARGE_REPETITIONS * 1e-9, " s"),
    "B1": Figures("cuda", _HEADS, 1e-6, " ms"),
    "B2": Figures("cuda", {f"{FUSED_SDPA}, {n} tokens": f"{ms} ms" for n, ms in TOKENS_MS.items()}, 1e-6, " ms"),
    "B3": Figures("cuda", {f"{FUSED_SDPA}, {n} tokens": f"{mb:g} MB" for n, mb in TOKENS_MB.items()}, 1e-6, " MB"),
}

COLUMNS = ("row", "on", "the study", "here, its protocol", "here, median [95% interval]")
TABLES = {
    "A1": Table(
        "A1: Accuracy of attention by hand",
        "Batch 4, context 8, vocabulary 40, embedding dimension 10: random tokens, an embedding and three linear "
        "layers, drawn anew each time. Here: the mean and the largest difference of each draw.",
        COLUMNS,
    ),
    "A2": Table(
        "A2: The tiny configuration, 50,000 repetitions",
        "The study's protocol: 50,000 calls one after another. Ours: short bursts of every form in random order, "
        "the median scaled to 50,000 calls. Q, K and V are made once; both forms get them in three dimensions, as "
        "there; kernels get a fourth, for the head.",
        COLUMNS,
    ),
    "A3": Table(
        "A3: Large matrices, 200 repetitions",
        "The write-up names no size: here batch 32, one head, 1024 tokens, head size 64, causal, FP32. Where 200 calls "
        "do not fit the time, fewer are scaled to 200.",
        COLUMNS,
    ),
    "A4": Table(
        "A4: Warm-up",
        "The first calls of a fresh process, each timed alone; batch 1, 8 heads, 128 tokens, head size 64. "
        "Loading torch is not counted.",
        ("subject", "on", "first call", f"calls from the {SETTLED_FROM + 1}th", "first / later", "processes"),
    ),
    "B1": Table(
        "B1: Multi-head attention by number of heads",
        "512 tokens, FP16. The write-up names neither batch nor head size: here head size 64, and batch 8 on a GPU, 1 "
        "on a CPU. The study's protocol: 50 warm-ups, 500 runs, mean without outliers, or as many as fit the time.",
        COLUMNS,
    ),
    "B2": Table(
        "B2: Time by context length",
        "FP16. The write-up does not say of which form: here SDPA with fused projections, 8 heads, head size "
        "64, batch 8 on a GPU, 1 on a CPU.",
        COLUMNS,
    ),
    "B3": Table(
        "B3: Memory by context length",
        "FP16, SDPA with fused projections, 8 heads, head size 64, batch 8 on a GPU, 1 on a CPU. Here the peak that "
        "one call adds: on a GPU what the allocator tells, on a CPU the live bytes of its tensors. Both are counted: "
        "they have no interval.",
        COLUMNS,
    ),
}

# What the write-ups left out, by part.
MORE = {
    "B": Table(
        "B: the whole matrix",
        "Multi-head attention, causal, forward: batch (b), heads (h), tokens (t), head size (d). Time of one call, "
        "median; the ratio is of neighbouring calls.",
        ("shape", "dtype", "on", FUSED_BY_HAND, FUSED_SDPA, LOOP_SDPA, "by hand / SDPA"),
    ),
    "growth": Table(
        "Growth with context length, every kernel",
        "Batch 1, 8 heads, head size 64, FP32, forward. The exponent is that of the least-squares line through all "
        "lengths on logarithms; its interval is about noise, not about how straight the line is.",
        ("kernel", "on", "time", "tokens", "memory", "tokens of it"),
    ),
    "long context": Table(
        "Long context",
        "Batch 1, 1 head, head size 32, FP32, causal, one call forward and backward: the most that its tensors took at "
        "a time, beyond the inputs, and what a single score matrix would take.",
        ("kernel", "on", "tokens", "peak of memory", "one score matrix"),
    ),
    "directions": Table(
        "Forward and backward",
        "Every kernel, and then modules. Batch 1, 8 heads, 512 tokens, head size 64, FP32, causal where the kernel "
        "knows it.",
        ("subject", "on", "forward", "forward and backward", "ratio"),
    ),
    "error": Table(
        "Speed and error, every kernel",
        "Batch 1, 8 heads, 512 tokens, head size 64, full attention, forward. Error: the largest difference from the "
        "float64 oracle on the same rounded inputs.",
        ("kernel", "dtype", "on", "time", "largest error"),
    ),
}

FAULTS = Table(
    "Three faults of the published code",
    "",
    ("fault", "what it does", "here"),
    (
        ("it masks with -1e9", "FP16 cannot hold it; a query that sees nothing becomes the mean of v", "-inf; zeros"),
        (
            "it starts the clock before the warm-up's kernels have finished",
            "their time counts too: 50 warm-ups make the mean of 500 runs a tenth too long",
            "a burst waits for queued work first",
        ),
        (
            "it takes a plain mean, although its protocol drops outliers",
            "one run in 25 that takes ten times as long makes it 1.36 times the median",
            "medians; for its protocol, the mean without outliers",
        ),
    ),
)
LEFT_OUT = Table(
    "What the write-ups left out, and where it is",
    "",
    ("left out there", "here", "see"),
    (
        ("multi-head attention", "mha, mhaloop", "tables B1 to B3"),
        ("a standard block", "block", "forward and backward"),
        ("FlashAttention kernels", "sdpa_flash", "every kernel"),
        ("several GPUs, several nodes, tensor parallelism", "attention/parallel.py", "the module itself"),
        ("sparse attention", "flex, sliding_window", "every kernel"),
        ("long context (more than 32k)", "blockwise, sdpa_flash", "long context"),
        ("the compiled version as a kernel", "compiled", "tables A2 and A3"),
        ("the backward pass", "every kernel but decode", "forward and backward"),
    ),
)
