"""A case: a kernel or module with a shape, a mask, a dtype, a direction and a device, and the words of its id."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DIRECTIONS = ("fwd", "fwdbwd")
DEVICES = ("cpu", "cuda")
# Kernels that go through the formula step by step, and hold all scores or many of them.
FORMULAS = ("manual", "masked", "blockwise", "sliding_window")

# Capabilities that an older base does not know, and what a message calls them.
_LATER = {
    "window": "a window",
    "softcap": "a cap on scores",
    "sinks": "sinks",
    "value_size": "values with a head size of their own",
}

# What a shape can say of the scores and of the memory of its tensors; ``suite/workload.py`` makes them so.
SCORES = ("large", "peaked")
LAYOUTS = ("transposed", "fused", "sliced", "expanded", "columns", "mixed")

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
    rf"(?:values(\d+))?({'|'.join(SCORES)})?({'|'.join(LAYOUTS)})?"
)


@dataclass(frozen=True)
class Shape:
    """Sizes of one case: q is (batch, heads, queries, head_size), k has as many kv_heads and keys, and v value_size.

    ``scale`` is that of the scores; None means ``head_size ** -0.5``. ``softcap`` caps them, ``sinks`` add a logit a
    head. ``values`` other than 1 are positive ones of about that size in v, whose sums are large. ``scores`` is None
    or one of ``SCORES``, ``layout`` None or one of ``LAYOUTS``.

    - ``large`` scores are beyond the range of exp in the case's dtype, above zero and below it.
    - ``peaked`` scores overflow fp16 before they are scaled, and one of each row is far above the others.
    - ``transposed`` tensors lie in memory as (B, T, H, D), ``fused`` ones in one projection (B, T, (H + 2 Hkv) D), a
      module's input as (T, B, E). So does the gradient that reaches the output.
    - ``sliced`` tensors are parts of larger ones. ``expanded`` ones have strides of zero, the gradient is of a sum.
    - ``columns`` lie in memory as (B, H, D, T). Of ``mixed`` tensors no two lie alike.

    A mask of four dimensions lies as the others do, where they are ``sliced`` or ``columns``.
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
    values: int = 1

    @classmethod
    @cache
    def parse(cls, text: str) -> "Shape":
        """Read ``b1h8t512d64``; ``h8kv2`` groups the queries, ``t1k1024`` gives keys a length of their own.

        ``d64v32`` gives values a size of their own. Behind that come ``scale0.3``, ``softcap30``, ``sinks``,
        ``values300``, one of ``SCORES``, and one of ``LAYOUTS``.
        """
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise ValueError(f"a shape is written like b1h8t512d64, b1h8kv2t512d64 or b1h8t1k1024d64; saw {text!r}")
        b, h, kv, t, k, d, v, *numbers, sinks, values, scores, layout = match.groups()
        batch, heads, kv_heads, queries, keys, size, value_size = map(int, (b, h, kv or h, t, k or t, d, v or d))
        scale, softcap = (None if number is None else float(number) for number in numbers)
        sizes = batch, heads, kv_heads, queries, keys, size, value_size
        return cls(*sizes, scale, scores, layout, softcap, sinks is not None, int(values or 1))

    def __str__(self) -> str:
        kv = "" if self.kv_heads == self.heads else f"kv{self.kv_heads}"
        k = "" if self.keys == self.queries else f"k{self.keys}"
        v = "" if self.value_size == self.head_size else f"v{self.value_size}"
        scale = "" if self.scale is None else f"scale{self.scale:g}"
        softcap = "" if self.softcap is None else f"softcap{self.softcap:g}"
        values = "" if self.values == 1 else f"values{self.values}"
        words = f"{softcap}{'sinks' * self.sinks}{values}{self.scores or ''}{self.layout or ''}"
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

    A case that is not ``timed`` is only checked, which takes some hundredths of a second. If it is not ``watched``,
    only its results are checked. ``model`` names the model whose attention it is, if it is a model's.
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
    watched: bool = field(default=True, compare=False)

    @classmethod
    def parse(cls, id_: str, modules: Collection[str]) -> "Case":
        """Read an id; ``modules`` are the subjects that are modules.

        Raises:
            ValueError: it is none of this version.

        """
        subject, shape, mask, dtype, device, direction = id_.split("-")
        Mask.parse(mask)
        if dtype not in DTYPES or direction not in DIRECTIONS:
            raise ValueError(f"{id_} has a dtype or a direction that is not known")
        return cls(subject, subject in modules, Shape.parse(shape), mask, dtype, device, direction)

    @property
    def id(self) -> str:
        """Stable and readable: ``sdpa-b1h8t512d64-causal-fp32-cpu-fwd``."""
        return f"{self.subject}-{self.shape}-{self.mask}-{self.dtype}-{self.device}-{self.direction}"

    @property
    def words(self) -> str:
        """The id without subject and device."""
        return f"{self.shape}-{self.mask}-{self.dtype}-{self.direction}"

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
