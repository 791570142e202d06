"""The matrix: every kernel and module x shape x mask x dtype x direction x device. A new shape is one line here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from .cases import FORMULAS, Case, Shape, lacks
from .covering import Covering

NESTED = ("smoke", "pr", "full")  # each holds the ones before it
TIERS = (*NESTED, "models")

# Kernels that few rows measure; a kernel that is named nowhere here is in every row of kernels.
COMPILING = ("compiled", "flex")  # each case compiles for seconds on each side
VARIANTS = ("decode", "sdpa_cudnn", "sdpa_efficient", "sdpa_flash", "sdpa_math")  # sdpa by one given path


@dataclass(frozen=True)
class Row:
    """Some of the matrix: every combination of the space-separated values, from ``tier`` upwards.

    ``subjects`` are names of kernels, or groups: ``kernels``, ``compiling`` (those in ``COMPILING``), ``variants`` and
    ``modules``; each kernel is in one of the first three. ``fused`` are the ``kernels`` but for ``FORMULAS``, which are
    too slow or take too much memory where a GPU is filled.

    A row that is not ``timed`` has inputs that tell a wrong kernel from a right one, and says nothing of speed that
    others do not. ``devices`` are those that have the row. A ``small`` row is timed on a CPU alone: on a GPU its calls
    are bound by their launches. ``model`` names the model whose attention it is. ``without`` are cases that are left
    out, each by its ``words``.
    """

    tier: str
    shapes: str
    masks: str = "full causal"
    dtypes: str = "fp32"
    directions: str = "fwd fwdbwd"
    subjects: str = "kernels modules"
    timed: bool = True
    model: str = ""
    devices: str = "cpu cuda"
    small: bool = False
    without: str = ""

    def cases(self, subjects: Sequence[tuple[str, Any]], devices: Sequence[str]) -> Iterator[Case]:
        """Yield the cases of each subject: a name, with the kernel, or None for a module."""
        words = (self.shapes.split(), self.masks.split(), self.dtypes.split(), self.directions.split())
        here = [device for device in devices if device in self.devices.split()]
        for device, (name, kernel), shape, mask, dtype, direction in product(here, subjects, *words):
            timed = self.timed and not (self.small and device == "cuda")
            case = Case(name, kernel is None, Shape.parse(shape), mask, dtype, device, direction, timed, self.model)
            if case.words not in self.without.split():
                yield case


Rows = Sequence[Row | Covering]

# Most rows: a call takes less than a millisecond on a core.
Small = partial(Row, small=True)
# A row that is checked and not timed, of kernels forward if it does not say otherwise.
Checked = partial(Row, timed=False, directions="fwd", subjects="kernels")

# Attention of models as they run it, at a few hundred tokens: prefill, then decoding one token. The batch is 1, or 2
# where items have different lengths. Heads, sizes, caps, sinks and scales are the model's own; windows are cut as the
# tokens are.
_Model = partial(Row, "models", dtypes="bf16", directions="fwd", subjects="kernels")
MODELS = (
    _Model("b1h12t256d64 b1h12t1k512d64", "causal", model="GPT-2"),
    _Model("b2h12t128d64", "paddingmask", model="BERT base"),
    _Model("b1h12t197d64", "full", model="ViT-B/16"),
    _Model("b1h12t128d64scale1", "floatmask", model="T5 base"),
    _Model("b1h20t300d64 b1h20t64k300d64", "full", model="Whisper large-v3"),
    _Model("b1h71kv1t64d64 b1h71kv1t1k512d64", "causal", model="Falcon 7B"),
    _Model("b1h32kv8t128d128 b1h32kv8t1k512d128", "causal", model="Llama 3.1 8B"),
    _Model("b1h28kv4t128d128 b1h28kv4t1k512d128", "causal", model="Qwen2.5 7B"),
    _Model("b1h32kv8t128d128 b1h32kv8t1k512d128", "causalwindow64", model="Mistral 7B v0.1"),
    _Model("b1h32t128d96 b1h32t1k512d96", "causalwindow64", model="Phi-3 mini"),
    _Model("b1h16kv8t128d256softcap50 b1h16kv8t1k512d256softcap50", "causal causalwindow64", model="Gemma 2 9B"),
    _Model("b1h8kv4t128d256 b1h8kv4t1k512d256", "causal causalwindow32", model="Gemma 3 4B"),
    _Model("b1h64kv8t128d64sinks b1h64kv8t1k512d64sinks", "causal causalwindow32", model="gpt-oss 20B"),
    _Model("b1h128t32d192v128 b1h128t1k256d192v128", "causal", model="DeepSeek-V3"),
)

# Rows that fill a GPU, with as many tokens in a batch and features in a layer as FlashAttention's benchmark has: 16,384
# and 2,048 (Dao 2023, "FlashAttention-2", section 4.1).
_Filling = partial(Row, subjects="fused", dtypes="bf16", devices="cuda")
_Decoding = partial(_Filling, masks="causal", directions="fwd", subjects="fused decode")
FILLING = (
    _Filling("smoke", "b16h16t1024d128", "causal"),
    _Decoding("smoke", "b32h32kv8t1k4096d128"),
    _Filling("pr", "b16h16t1024d128", "full"),
    _Filling("pr", "b4h16t4096d128 b1h16t16384d128"),
    _Filling("pr", "b4h32t4096d64"),
    _Filling("pr", "b4h16t4096d128 b4h8t4096d256 b4h16t4096d192v128", "causal", dtypes="fp16"),
    _Filling("pr", "b4h8t4096d256 b4h16t4096d192v128", "causal"),
    _Filling("pr", "b4h32kv8t4096d128", "causal"),
    _Filling("pr", "b2h16t8192d128", "causalwindow1024", subjects="fused flex"),
    _Decoding("pr", "b32h32kv8t4k4096d128 b8h32kv8t64k16384d128 b2h32kv8t1k65536d128 b2h32kv8t4k65536d128"),
    _Filling("pr", "b4h16t4096d128", "causal", subjects="flex sdpa_flash sdpa_cudnn"),
    _Filling("pr", "b16h16t1024d128", "causal", directions="fwd", subjects="compiled sdpa_efficient sdpa_math"),
    _Filling("pr", "b4h16t1024d128", "full", subjects=" ".join(FORMULAS)),
    _Filling("pr", "b4h16t1024d128", "causal", subjects="modules"),
    _Filling("full", "b1h32t16384d64 b1h8t16384d256", subjects="fused sdpa_flash sdpa_cudnn"),
    _Filling("full", "b4h16t4096d128", dtypes="fp16", subjects="fused flex sdpa_flash sdpa_cudnn"),
    _Decoding("full", "b1h32kv8t64k65536d128 b16h32kv8t1k16384d64", dtypes="bf16 fp16"),
)

ROWS: Rows = (
    Small("smoke", "b1h4t64d32"),
    Small("smoke", "b1h4t64d32", "causal", "bf16", "fwd", "kernels"),
    Small("smoke", "b2h4kv2t48d32", "boolmask", directions="fwdbwd"),
    Small("smoke", "b2h4kv2t16k48d32", "causal floatmask", directions="fwdbwd", subjects="kernels"),
    Small("smoke", "b2h4kv2t16k48d16v32", "causalfloatmask", directions="fwdbwd", subjects="kernels"),
    Small("smoke", "b1h8t1k256d64", "causal", directions="fwd", subjects="kernels"),
    # More tokens than a tile of blockwise has.
    Small("smoke", "b1h1t300d16scale0.1", "causal learnedmask", directions="fwdbwd", subjects="kernels"),
    Small("smoke", "b1h2t96d32", "window16 causalwindow16", directions="fwdbwd", subjects="kernels"),
    Small("smoke", "b1h4kv2t40k96d32v16scale0.3", "causalwindow16", directions="fwdbwd", subjects="kernels"),
    Small("smoke", "b2h4kv2t16k48d32", "causal", directions="fwd", subjects="variants"),
    Small("smoke", "b2h4t64d64transposed", "full", directions="fwd", subjects="kernels"),  # as projections give them
    # What wrong kernels get wrong, one kind of fault a row, each as small as it can be.
    Checked("smoke", "b1h2t24d8scale0", "causal", directions="fwdbwd"),
    Checked("smoke", "b1h2t24d64large", "full", "fp32 fp16"),
    Checked("smoke", "b1h2t24d64peaked", "full causal boolmask", "fp16"),
    Checked("smoke", "b1h1t270d16large", "full", directions="fwdbwd"),
    Checked("smoke", "b2h2t20d64fused b2h2t20d64expanded", "full", directions="fwdbwd"),
    Checked("smoke", "b2h2t20d64expanded", "floatmask"),
    Checked(
        "smoke", "b2h2t20d64transposed", "causaltruemask causalboolmaskbhqk", directions="fwdbwd", subjects="modules"
    ),
    Checked("smoke", "b2h2t20d64expanded", "lowmask", directions="fwdbwd", subjects="modules"),
    Checked("smoke", "b2h2t20k28d64", "boolmaskbhqk boolmaskbhk floatmaskbhqk learnedmaskbhqk", directions="fwdbwd"),
    Checked("smoke", "b2h4kv2t20k28d64", "causallearnedmask", "fp32 bf16 fp16", directions="fwdbwd"),
    Checked("smoke", "b2h2t20k28d64", "lowmask floatmaskbqk", directions="fwd fwdbwd"),
    Checked("smoke", "b2h2t20k28d64", "causaltruemask paddingmask boolmaskk floatmaskqk"),
    # As many items as heads, queries and keys: no size tells the dimensions of a mask apart.
    Checked("smoke", "b3h3t3d64", "boolmaskqk boolmaskbk boolmaskhq floatmaskbq", directions="fwdbwd"),
    # Positions that half precision cannot tell apart: from 257 in bf16, from 2,049 in fp16.
    Checked("smoke", "b1h2t3k2100d64", "causal window40 causalwindow300", "bf16 fp16"),
    # Sums of weights and values that a half-precision one cannot hold before it is divided.
    Checked("smoke", "b1h2t3k2100d64scale0.05values300", "full causal", "bf16 fp16"),
    # More tokens than a tile, one query, two, fewer keys than a vector register holds, and lengths one off a tile.
    Checked("smoke", "b1h1t270d16", "boolmaskq"),
    Checked("smoke", "b2h4t1d64", "causal"),
    Checked("smoke", "b1h3t70k20d64", "full boolmask", directions="fwdbwd"),
    Checked("smoke", "b1h4t2k9d64", "causal window5"),
    Checked("smoke", "b2h8t1k17d64 b1h1t257d16", "full causal", directions="fwdbwd"),
    Checked("smoke", "b2h1t65d16", "window1 causalwindow64"),
    Checked("smoke", "b1h2t270d16softcap2sinks", "causalwindow16 window16", directions="fwdbwd"),
    Checked("smoke", "b2h2t20d64sinks", "full", directions="fwdbwd"),
    Checked("smoke", "b2h2t20k28d64transposed b2h2t20k28d64v16", "full", subjects="variants"),
    Checked("pr", "b1h2t24d64softcap50large b1h2t24d64sinkslarge", "causal", directions="fwdbwd"),
    Checked("pr", "b1h1t270d16", "boolmaskk"),
    Checked("pr", "b1h1t2400k20d16", "full", "bf16", directions="fwdbwd"),  # sums of many tiles
    Checked("pr", "b1h4t7k9d64", "full causal"),
    Checked("pr", "b1h4t2k9d64", "causalwindow5"),
    Checked("pr", "b2h2t20k28d64", "boolmaskhqk boolmaskbq floatmaskbk floatmaskbhk", directions="fwdbwd"),
    Checked("pr", "b2h2t20k28d64", "learnedmaskqk learnedmaskbk", directions="fwdbwd"),
    Checked("pr", "b1h1t1d16 b1h1t255k257d16 b1h1t256d16", "causal"),
    Checked("pr", "b1h1t63k65d16", "window64 causalwindow65", directions="fwdbwd"),
    # A timed call takes 0.1 to 0.8 ms: short calls need hardly more pairs than long ones. What they cannot show, such
    # as several tiles, or scores larger than a core's caches, one large row a kernel shows, and checked rows above.
    Small("pr", "b1h2t128d64", subjects="kernels"),
    Small("pr", "b1h2t128d64", dtypes="bf16", subjects="kernels"),
    Small("pr", "b1h1t64d64", dtypes="fp16", subjects="kernels"),
    Small("pr", "b1h2t128d64", "boolmask floatmask", subjects="kernels"),
    Small("pr", "b1h8kv2t64d64", "causal boolmask", subjects="kernels"),
    Small("pr", "b1h8t1k1024d64 b1h8kv2t1k1024d64", "full", directions="fwd", subjects="kernels"),
    Small("pr", "b1h4t32k256d64", "causal", subjects="kernels"),
    Small("pr", "b1h2t128d64", "window32 causalwindow32", subjects="kernels"),
    Small("pr", "b1h2t128d64softcap20", "causal", subjects="kernels"),
    Small("pr", "b1h4kv2t64d64sinks", "causalwindow32", subjects="kernels"),
    Small("pr", "b1h4t64d64transposed", "causal", subjects="kernels"),  # as projections give them
    Small("pr", "b1h1t512d64", "causal", directions="fwdbwd", subjects="kernels"),  # the large row
    Small("pr", "b1h1t512d64", "causal", directions="fwd", subjects="compiling"),  # likewise
    Small("pr", "b1h2t192d64", "causal", directions="fwd", subjects="variants"),  # likewise
    Small("pr", "b1h2t128d64", "causal", directions="fwdbwd", subjects="compiling variants"),
    Small("pr", "b1h8kv2t64d64", "boolmask", directions="fwdbwd", subjects="variants"),
    Small("pr", "b1h8kv2t64d64", "boolmask", directions="fwd", subjects="compiling"),
    Small("pr", "b1h4kv2t40k96d32v16scale0.3", "causalfloatmask causalwindow16", "fp32", "fwd", "compiling"),
    Small("pr", "b1h2t64d64", "causal", "bf16", "fwd", subjects="variants"),
    Small("pr", "b2h4kv2t64d32", "causal", subjects="modules"),
    Small("pr", "b1h4t64d32", "causal", "bf16", subjects="modules"),
    Small("pr", "b1h4t192d32", "causal", directions="fwdbwd", subjects="modules"),  # the large row
    # Keys beyond a multiple of 16 by 8, at the head sizes that PyTorch's FlexAttention serves by other code: with AVX2
    # that code scores 16 keys for the last 8.
    Checked("pr", "b1h2t6k8d8 b1h4kv2t6k24d16 b1h2t6k40d8", "full", subjects="compiling"),
    Checked("full", "b2h4kv2t20k28d64softcap2sinks", "causalfloatmask boolmask", subjects="compiling"),
    Checked("full", "b2h2t20k28d64transposed", "causalboolmaskbhqk floatmaskbqk window7", subjects="compiling"),
    Checked("full", "b1h2t6k8d8sliced b1h4kv2t6k24d16sliced", "causal boolmask", "bf16 fp16", subjects="compiling"),
    Checked("full", "b1h2t6k8d8sinks b1h2t6k23d16sinks", "full", subjects="compiling"),
    # The study: its single-head configuration, and its multi-head matrix.
    Row("full", "b4h1t8d10"),
    *(
        Row("full", f"b{batch}h{heads}t{tokens}d64", dtypes="fp32 fp16")
        for batch, tokens, heads in product((1, 8, 32), (128, 512, 1024), (4, 8, 16))
    ),
    Covering("smoke", "kernels"),
    Covering("pr", "decode modules"),
    Covering("full", "sdpa_cudnn sdpa_efficient sdpa_flash sdpa_math"),
    *MODELS,
    *FILLING,
)


def checked_rows() -> tuple[Row, ...]:
    """Return the rows whose cases every kernel is checked in, and not timed."""
    rows = (row for row in ROWS if isinstance(row, Row) and not row.timed and row.tier in NESTED)
    return tuple(row for row in rows if "kernels" in row.subjects.split())


def without_coverings(rows: Rows) -> Rows:
    """Leave out the covering arrays: a package chooses them that another interpreter may not have."""
    return tuple(row for row in rows if not isinstance(row, Covering))


def matrix(
    kernels: Mapping[str, Any],
    modules: Mapping[str, Any],
    tier: str | None,
    devices: Sequence[str],
    rows: Rows = ROWS,
) -> dict[Case, str | None]:
    """Every case of the tier on the devices, in a stable order, with the reason where its subject cannot run it.

    Without a tier, those of all tiers.
    """
    cases: dict[Case, str | None] = {}
    for row in rows:
        if tier is not None and not _holds(tier, row.tier):
            continue
        subjects = row.subjects.split()
        chosen = [(name, kernel) for name, kernel in kernels.items() if _groups(name) & {*subjects}]
        chosen += [(name, None) for name in modules if "modules" in subjects]
        for case in row.cases(chosen, devices):
            if case not in cases:  # of two rows with a case, the first says whether it is timed
                cases[case] = None if case.module else lacks(kernels[case.subject], case)
    return cases


def _holds(tier: str, of_row: str) -> bool:
    """Whether a tier has the rows of another."""
    return of_row == tier or (of_row in NESTED and tier in NESTED[NESTED.index(of_row) :])


def _groups(kernel: str) -> set[str]:
    """Which subjects of rows the kernel of this name is."""
    if kernel in (*COMPILING, *VARIANTS):
        return {kernel, "compiling" if kernel in COMPILING else "variants"}
    return {kernel, "kernels"} if kernel in FORMULAS else {kernel, "kernels", "fused"}
