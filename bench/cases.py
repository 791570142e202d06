"""The matrix: every kernel and module x shape x mask x dtype x direction x device. A new shape is one line here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import product
from typing import Any

import torch

NESTED = ("smoke", "pr", "full")  # each holds the ones before it
TIERS = (*NESTED, "models")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DIRECTIONS = ("fwd", "fwdbwd")

# Kernels that few rows measure; a kernel that is named nowhere here is in every row of kernels.
COMPILING = ("compiled", "flex")  # each case compiles for seconds on each side
VARIANTS = ("decode", "sdpa_cudnn", "sdpa_efficient", "sdpa_flash", "sdpa_math")  # sdpa by one given path

# Capabilities that an older base does not know, and what a message calls them.
_LATER = {
    "window": "a window",
    "softcap": "a cap on scores",
    "sinks": "sinks",
    "value_size": "values with a head size of their own",
}

# What a shape can say of the scores and of the memory of its tensors; ``sides/workload.py`` makes them so.
SCORES = ("large", "peaked")
LAYOUTS = ("transposed", "fused", "sliced", "expanded", "columns")

# Kinds of masks by their words: the kind that a kernel's capabilities name, and which sizes of the scores they have.
_MASKS = {
    "bool": ("bool", "bqk"),
    "true": ("bool", "bqk"),
    "padding": ("bool", "bk"),
    "float": ("float", "hqk"),
    "low": ("float", "bqk"),
    "learned": ("float", "hk"),
}
_MASK = re.compile(rf"full|(causal)?(?:({'|'.join(_MASKS)})mask(b?h?q?k?)|window(\d+))?")
_SHAPE = re.compile(
    r"b(\d+)h(\d+)(?:kv(\d+))?t(\d+)(?:k(\d+))?d(\d+)(?:v(\d+))?(?:scale(\d+(?:\.\d+)?))?(?:softcap(\d+(?:\.\d+)?))?(sinks)?"
    rf"({'|'.join(SCORES)})?({'|'.join(LAYOUTS)})?"
)


@dataclass(frozen=True)
class Shape:
    """Sizes of one case: q is (batch, heads, queries, head_size), k has as many kv_heads and keys, and v value_size.

    ``scale`` is that of the scores; None means ``head_size ** -0.5``. ``softcap`` caps them, ``sinks`` add a logit a
    head. ``scores`` and ``layout`` are none of those named above, or one.

    - ``large`` scores are beyond the range of exp in the case's dtype, above zero and below it.
    - ``peaked`` scores overflow fp16 before they are scaled, and one of each row is far above the others.
    - ``transposed`` tensors lie in memory as (B, T, H, D), ``fused`` ones in one projection (B, T, (H + 2 Hkv) D), a
      module's input as (T, B, E). So does the gradient that reaches the output.
    - ``sliced`` tensors are parts of larger ones. ``expanded`` ones have strides of zero, the gradient is of a sum.
    - ``columns`` lie in memory as (B, H, D, T).
    """

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    head_size: int
    value_size: int
    scale: float | None = None
    scores: str | None = None
    layout: str | None = None
    softcap: float | None = None
    sinks: bool = False

    @classmethod
    @cache
    def parse(cls, text: str) -> "Shape":
        """Read ``b1h8t512d64``; ``h8kv2`` groups the queries, ``t1k1024`` gives keys a length of their own.

        ``d64v32`` gives values a size of their own. Behind that come ``scale0.3``, ``softcap30``, ``sinks``, one
        of ``SCORES``, and one of ``LAYOUTS``.
        """
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise ValueError(f"a shape is written like b1h8t512d64, b1h8kv2t512d64 or b1h8t1k1024d64; saw {text!r}")
        b, h, kv, t, k, d, v, *numbers, sinks, scores, layout = match.groups()
        batch, heads, kv_heads, queries, keys, size, value_size = map(int, (b, h, kv or h, t, k or t, d, v or d))
        scale, softcap = (None if number is None else float(number) for number in numbers)
        sizes = batch, heads, kv_heads, queries, keys, size, value_size
        return cls(*sizes, scale, scores, layout, softcap, sinks is not None)

    def __str__(self) -> str:
        kv = "" if self.kv_heads == self.heads else f"kv{self.kv_heads}"
        k = "" if self.keys == self.queries else f"k{self.keys}"
        v = "" if self.value_size == self.head_size else f"v{self.value_size}"
        scale = "" if self.scale is None else f"scale{self.scale:g}"
        softcap = "" if self.softcap is None else f"softcap{self.softcap:g}"
        words = f"{softcap}{'sinks' * self.sinks}{self.scores or ''}{self.layout or ''}"
        return f"b{self.batch}h{self.heads}{kv}t{self.queries}{k}d{self.head_size}{v}{scale}{words}"


@dataclass(frozen=True)
class Mask:
    """What hides keys from queries: a mask tensor, ``causal``, a ``window``, or nothing.

    ``word`` says what the mask tensor holds. ``bool`` and ``float``: a mixture; ``true``: True alone; ``padding``: a
    length for each item; ``low``: the dtype's lowest values; ``learned``: values of which a gradient is taken.
    ``sizes`` are the letters of the sizes that it has, of b, h, q and k.
    """

    word: str | None = None
    causal: bool = False
    window: int | None = None
    sizes: str = ""

    @classmethod
    @cache
    def parse(cls, text: str) -> "Mask":
        """Read ``full``, ``causal``, ``window64``, or a mask such as ``boolmask``, with its sizes ``boolmaskbhqk``.

        Before a window or a mask, ``causal`` says that it applies too: ``causalwindow64``.
        """
        match = _MASK.fullmatch(text)
        if match is None or not text:
            words = ", ".join(f"{word}mask" for word in _MASKS)
            raise ValueError(
                f"a mask is full, causal, window64, or one of {words}, with its sizes as in boolmaskbhqk if they are "
                f"others than its own; the last two after causal too; saw {text!r}"
            )
        causal, word, sizes, window = match.groups()
        own = "" if word is None else sizes or _MASKS[word][1]
        return cls(word, causal is not None, None if window is None else int(window), own)

    @property
    def kind(self) -> str | None:
        """What a kernel's capabilities call it: ``bool``, ``float``, or None where there is no mask tensor."""
        return None if self.word is None else _MASKS[self.word][0]

    @property
    def learned(self) -> bool:
        return self.word == "learned"


@dataclass(frozen=True)
class Case:
    """One thing to check and time. ``subject`` names a kernel, or a multi-head module where ``module`` is true.

    One that is not ``timed`` is only checked, which takes some hundredths of a second. ``model`` names the model that
    does such work, where it stands for one.
    """

    subject: str
    module: bool
    shape: Shape
    mask: str
    dtype: str
    device: str
    direction: str
    timed: bool = field(default=True, compare=False)
    model: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """Stable and readable: ``sdpa-b1h8t512d64-causal-fp32-cpu-fwd``."""
        return f"{self.subject}-{self.shape}-{self.mask}-{self.dtype}-{self.device}-{self.direction}"

    @property
    def backward(self) -> bool:
        return self.direction == "fwdbwd"

    @property
    def hiding(self) -> Mask:
        return Mask.parse(self.mask)

    @property
    def mask_shape(self) -> tuple[int, ...] | None:
        """The shape of the mask tensor, if there is one: four-dimensional if it has the batch's or the heads' size."""
        hiding, shape = self.hiding, self.shape
        if hiding.word is None:
            return None
        sizes = {"b": shape.batch, "h": shape.heads, "q": shape.queries, "k": shape.keys}
        every = tuple(size if letter in hiding.sizes else 1 for letter, size in sizes.items())
        return every if {*"bh"} & {*hiding.sizes} else every[2:] if "q" in hiding.sizes else every[3:]


@dataclass(frozen=True)
class Row:
    """Some of the matrix: every combination of the space-separated values, from ``tier`` upwards.

    ``subjects`` are some of ``kernels``, ``compiling`` (those in ``COMPILING``), ``variants`` and ``modules``; each
    kernel is one of the first three. A row that is not ``timed`` has inputs that tell a wrong kernel from a right one,
    and says nothing of speed that others do not. ``model`` names the model whose attention it is.
    """

    tier: str
    shapes: str
    masks: str = "full causal"
    dtypes: str = "fp32"
    directions: str = "fwd fwdbwd"
    subjects: str = "kernels modules"
    timed: bool = True
    model: str = ""


# A row that is checked and not timed, of kernels forward if it does not say otherwise.
Checked = partial(Row, timed=False, directions="fwd", subjects="kernels")

# Attention of models as they run it, in batch 1 and at some hundred tokens: prefill, then decoding one token. Heads,
# sizes, caps, sinks and scales are the model's own; windows are cut as the tokens are.
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

ROWS = (
    Row("smoke", "b1h4t64d32"),
    Row("smoke", "b1h4t64d32", "causal", "bf16", "fwd", "kernels"),
    Row("smoke", "b2h4kv2t48d32", "boolmask", directions="fwdbwd"),
    Row("smoke", "b2h4kv2t16k48d32", "causal floatmask", directions="fwdbwd", subjects="kernels"),
    Row("smoke", "b2h4kv2t16k48d16v32", "causalfloatmask", directions="fwdbwd", subjects="kernels"),
    Row("smoke", "b1h8t1k256d64", "causal", directions="fwd", subjects="kernels"),
    # More tokens than a tile of blockwise has.
    Row("smoke", "b1h1t300d16scale0.1", "causal learnedmask", directions="fwdbwd", subjects="kernels"),
    Row("smoke", "b1h2t96d32", "window16 causalwindow16", directions="fwdbwd", subjects="kernels"),
    Row("smoke", "b1h4kv2t40k96d32v16scale0.3", "causalwindow16", directions="fwdbwd", subjects="kernels"),
    Row("smoke", "b2h4kv2t16k48d32", "causal", directions="fwd", subjects="variants"),
    Row("smoke", "b2h4t64d64transposed", "full", directions="fwd", subjects="kernels"),  # as projections give them
    # What wrong kernels get wrong, one kind of fault a row, each as small as it can be.
    Checked("smoke", "b1h2t24d8scale0", "causal", directions="fwdbwd"),
    Checked("smoke", "b1h2t24d64scale0.3", "full"),
    Checked("smoke", "b2h2t20k28d64v16scale0.0625", "causal", directions="fwdbwd"),
    Checked("smoke", "b1h1t300d16scale0.1", "causalboolmask", directions="fwdbwd"),
    Checked("smoke", "b1h2t24d64large", "full", "fp32 fp16"),
    Checked("smoke", "b1h2t24d64peaked", "full", "fp16"),
    Checked("smoke", "b1h1t270d16large", "full", directions="fwdbwd"),
    Checked("smoke", "b2h2t20d64transposed b2h2t20d64fused", "full", directions="fwdbwd"),
    Checked("smoke", "b2h2t20d64sliced b2h2t20d64expanded", "full", directions="fwdbwd"),
    Checked("smoke", "b2h4kv2t20d64transposed", "causalwindow7", directions="fwdbwd"),
    Checked(
        "smoke", "b2h2t20d64transposed", "causaltruemask causalboolmaskbhqk", directions="fwdbwd", subjects="modules"
    ),
    Checked("smoke", "b2h2t20d64expanded", "lowmask", directions="fwdbwd", subjects="modules"),
    Checked("smoke", "b2h2t20d64expanded", "floatmask"),
    Checked("smoke", "b2h2t20k28d64", "boolmaskbhqk boolmaskbhk floatmaskbhqk learnedmaskbhqk", directions="fwdbwd"),
    Checked("smoke", "b2h2t20k28d64", "lowmask floatmaskbqk", directions="fwd fwdbwd"),
    Checked("smoke", "b2h2t20k28d64", "causaltruemask paddingmask boolmaskk floatmaskqk"),
    # More tokens than a tile, one query, two, fewer keys than a vector register holds, and lengths one off a tile.
    Checked("smoke", "b1h1t270d16", "boolmaskq"),
    Checked("smoke", "b2h4t1d64", "causal"),
    Checked("smoke", "b1h4t2k9d64", "causal window5"),
    Checked("smoke", "b2h8t1k17d64 b1h1t257d16", "full causal", directions="fwdbwd"),
    Checked("smoke", "b2h1t65d16", "window1 causalwindow64"),
    Checked("smoke", "b2h4kv2t20k28d64softcap2", "causal boolmask floatmask", directions="fwdbwd"),
    Checked("smoke", "b2h4kv2t20k28d64sinks", "full causal boolmask", directions="fwdbwd"),
    Checked("smoke", "b1h2t270d16softcap2sinks", "causalwindow16 window16", directions="fwdbwd"),
    Checked("smoke", "b2h2t20k28d64transposed b2h2t20k28d64v16", "full", subjects="variants"),
    Checked("pr", "b2h2t20k28d64", "boolmaskbhqk floatmaskbqk", directions="fwd fwdbwd", subjects="variants"),
    Checked("pr", "b2h4kv2t20k28d64softcap2", "full", "bf16 fp16", directions="fwdbwd"),
    Checked("pr", "b2h4kv2t20k28d64sinks", "full", "bf16 fp16", directions="fwdbwd"),
    Checked("pr", "b1h2t24d64softcap50large b1h2t24d64sinkslarge", "causal", directions="fwdbwd"),
    Checked("pr", "b1h1t270d16", "boolmaskk"),
    Checked("pr", "b1h1t2400k20d16", "full", "bf16", directions="fwdbwd"),  # sums of many tiles
    Checked("pr", "b1h4t7k9d64", "full causal"),
    Checked("pr", "b1h4t2k9d64", "causalwindow5"),
    Checked("pr", "b2h2t20d64columns", "full", directions="fwd fwdbwd"),
    Checked("pr", "b2h2t20d64sliced b2h2t20d64expanded", "full", "fp32 fp16"),
    Checked("pr", "b2h2t20k28d64", "boolmaskhqk boolmaskbq floatmaskbk floatmaskbhk", directions="fwdbwd"),
    Checked("pr", "b2h2t20k28d64", "learnedmaskqk learnedmaskbk", directions="fwdbwd"),
    Checked("pr", "b2h4kv2t20k28d64transposed", "causalboolmaskbhqk floatmaskbhqk", "bf16", directions="fwdbwd"),
    Checked("pr", "b1h1t1d16 b1h1t255k257d16 b1h1t256d16", "causal"),
    Checked("pr", "b1h1t63k65d16", "window64 causalwindow65", directions="fwdbwd"),
    # A timed call takes 0.1 to 0.8 ms: short calls need hardly more pairs than long ones. What they cannot show, such
    # as several tiles, or scores larger than a core's caches, one large row a kernel shows, and checked rows above.
    Row("pr", "b1h2t128d64", subjects="kernels"),
    Row("pr", "b1h2t128d64", dtypes="bf16", subjects="kernels"),
    Row("pr", "b1h1t64d64", dtypes="fp16", subjects="kernels"),
    Row("pr", "b1h2t128d64", "boolmask floatmask", subjects="kernels"),
    Row("pr", "b1h8kv2t64d64", "causal boolmask", subjects="kernels"),
    Row("pr", "b1h8t1k1024d64 b1h8kv2t1k1024d64", "full", directions="fwd", subjects="kernels"),
    Row("pr", "b1h4t32k256d64", "causal", subjects="kernels"),
    Row("pr", "b1h2t128d64", "window32 causalwindow32", subjects="kernels"),
    Row("pr", "b1h2t128d64softcap20", "causal", subjects="kernels"),
    Row("pr", "b1h4kv2t64d64sinks", "causalwindow32", subjects="kernels"),
    Row("pr", "b1h4t64d64transposed", "causal", subjects="kernels"),  # as projections give them
    Row("pr", "b1h1t512d64", "causal", directions="fwdbwd", subjects="kernels"),  # the large row
    Row("pr", "b1h1t512d64", "causal", directions="fwd", subjects="compiling"),  # likewise
    Row("pr", "b1h2t192d64", "causal", directions="fwd", subjects="variants"),  # likewise
    Row("pr", "b1h2t128d64", "causal", directions="fwdbwd", subjects="compiling variants"),
    Row("pr", "b1h8kv2t64d64", "boolmask", directions="fwdbwd", subjects="variants"),
    Row("pr", "b1h8kv2t64d64", "boolmask", directions="fwd", subjects="compiling"),
    Row("pr", "b1h4kv2t40k96d32v16scale0.3", "causalfloatmask causalwindow16", "fp32", "fwd", "compiling"),
    Row("pr", "b1h2t64d64", "causal", "bf16", "fwd", subjects="variants"),
    Row("pr", "b2h4kv2t64d32", "causal", subjects="modules"),
    Row("pr", "b1h4t64d32", "causal", "bf16", subjects="modules"),
    Row("pr", "b1h4t192d32", "causal", directions="fwdbwd", subjects="modules"),  # the large row
    # Checked where they were timed before: larger tensors than the other checked rows.
    Checked("pr", "b1h4t64k512d64 b1h2t256d64", "causal causalwindow64", directions="fwdbwd"),
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
    *MODELS,
)


def matrix(
    kernels: Mapping[str, Any],
    modules: Mapping[str, Any],
    tier: str | None,
    devices: Sequence[str],
    rows: Sequence[Row] = ROWS,
) -> dict[Case, str | None]:
    """Every case of the tier on the devices, in a stable order, with the reason where its subject cannot run it.

    Without a tier, those of all tiers.
    """
    cases: dict[Case, str | None] = {}
    for row in rows:
        if tier is not None and not _holds(tier, row.tier):
            continue
        subjects = row.subjects.split()
        chosen = [(name, False) for name in kernels if _group(name) in subjects]
        chosen += [(name, True) for name in modules if "modules" in subjects]
        for device, (subject, module), shape, mask, dtype, direction in product(
            devices, chosen, row.shapes.split(), row.masks.split(), row.dtypes.split(), row.directions.split()
        ):
            case = Case(subject, module, Shape.parse(shape), mask, dtype, device, direction, row.timed, row.model)
            cases[case] = None if module else lacks(kernels[subject], case)
    return cases


def _holds(tier: str, of_row: str) -> bool:
    """Whether a tier has the rows of another."""
    return of_row == tier or (of_row in NESTED and tier in NESTED[NESTED.index(of_row) :])


def _group(kernel: str) -> str:
    """Which rows measure the kernel of this name."""
    return "compiling" if kernel in COMPILING else "variants" if kernel in VARIANTS else "kernels"


def lacks(kernel: Any, case: Case) -> str | None:
    """Say what the kernel does not support of the case, from the capabilities it is registered with; None if it can."""
    capabilities, hiding = kernel.capabilities, case.hiding
    shape = case.shape
    wanted: dict[str, Any] = {
        "window": hiding.window,
        "softcap": shape.softcap,
        "sinks": shape.sinks or None,
        "value_size": shape.value_size != shape.head_size or None,
    }
    asked = {name: value for name, value in wanted.items() if value is not None}
    for name in asked:
        if not hasattr(capabilities, name):  # the kernel is from an older base
            return f"{case.subject} does not support {_LATER[name]}"
    missing: str | None = capabilities.lacks(
        mask=hiding.kind,
        causal=hiding.causal,
        grouped=shape.kv_heads != shape.heads,
        dtype=DTYPES[case.dtype],
        device=case.device,
        backward=case.backward,
        **asked,
    )
    return None if missing is None else f"{case.subject} does not support {missing}"


def supported_ids(cases: Mapping[Case, str | None]) -> set[str]:
    """The ids of the cases that can run."""
    return {case.id for case, reason in cases.items() if reason is None}
