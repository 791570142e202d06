"""Chooses cases by a covering array: a kernel meets each two words of two axes together, in as few cases as can be.

Pairwise testing (Cohen et al. 1997, "The AETG System"; ``allpairspy`` chooses). What a kernel does not support is left
out beforehand, so each kernel has an array of its own, and no pair of words is lost to a case that it cannot run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from .cases import Case, Shape, lacks

# A new axis is a line here, its plainest word first. Each word goes with each word of the other axes.
KERNEL_AXES: Mapping[str, Sequence[str]] = {
    "mask": ("full", "causal", "window7", "causalwindow40", "boolmask", "floatmaskbhqk", "causalboolmaskbk"),
    "dtype": ("fp32", "bf16", "fp16"),
    "direction": ("fwd", "fwdbwd"),
    "batch": ("b1", "b2", "b3"),
    "heads": ("h1", "h3", "h6kv2", "h8kv1", "h6kv3"),
    "tokens": ("t17", "t66k69", "t130", "t1k257", "t3k1100"),
    "head_size": ("d64", "d8", "d33", "d128", "d160", "d256"),
    "value_size": ("", "v24"),
    "option": ("", "scale0.05", "scale1", "softcap2", "sinks"),
    "values": ("", "values300"),
    "scores": ("", "large"),
    "layout": ("", "transposed", "sliced", "columns", "mixed"),
}
MODULE_AXES: Mapping[str, Sequence[str]] = {
    "mask": ("full", "causal", "boolmask", "floatmaskbhqk", "causalboolmaskbk"),
    "dtype": ("fp32", "bf16", "fp16"),
    "direction": ("fwd", "fwdbwd"),
    "batch": ("b1", "b2", "b3"),
    "heads": ("h1", "h3", "h4kv2", "h6kv2", "h8kv1"),
    "tokens": ("t17", "t1", "t33", "t130"),
    "head_size": ("d32", "d8", "d20", "d72"),
    "layout": ("", "transposed", "sliced", "expanded"),
}
_SHAPE = "batch heads tokens head_size value_size option values scores layout".split()  # noqa: SIM905  # as in an id


Axes = tuple[tuple[str, Sequence[str]], ...]


@dataclass(frozen=True)
class Covering:
    """Some of the matrix: a covering array of each of its ``subjects``, from ``tier`` upwards.

    Its cases are not timed, and their calls are not watched: results alone are checked, and what ran. ``axes`` are
    those of kernels, each with its words.
    """

    tier: str
    subjects: str
    axes: Axes = tuple(KERNEL_AXES.items())

    def cases(self, subjects: Sequence[tuple[str, Any]], devices: Sequence[str]) -> Iterator[Case]:
        """Yield the cases of each subject: a name, with the kernel, or None for a module."""
        for device, (name, kernel) in product(devices, subjects):
            for words in self.chosen(kernel, device):
                yield case_of(name, kernel, device, words)

    def chosen(self, kernel: Any, device: str) -> Iterator[Mapping[str, str]]:
        """Yield the words of each case of a kernel, or of a module without one, by axis."""
        axes = MODULE_AXES if kernel is None else _supported(kernel, device, dict(self.axes))
        for words in _pairs(tuple(map(tuple, axes.values()))):
            yield dict(zip(axes, words, strict=True))


def case_of(name: str, kernel: Any, device: str, words: Mapping[str, str]) -> Case:
    shape = Shape.parse("".join(words.get(axis, "") for axis in _SHAPE))
    of = shape, words["mask"], words["dtype"], device, words["direction"]
    return Case(name, kernel is None, *of, timed=False, watched=False)


def _supported(kernel: Any, device: str, axes: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Leave out of each axis what the kernel does not support; nothing is left where it does not run on the device."""

    def supports(words: Mapping[str, str]) -> bool:
        return lacks(kernel, case_of("", kernel, device, words)) is None

    return served(axes, supports)


def served(
    axes: Mapping[str, Sequence[str]], serves: Callable[[Mapping[str, str]], bool]
) -> Mapping[str, Sequence[str]]:
    """Keep the words of each axis that are served together with plain words of the other axes; nothing if none are.

    The plain words are the first combination that is served: any mask and dtype, and of the other axes the first word
    of all, or of all but one.
    """
    plain = {axis: words[0] for axis, words in axes.items()}
    others = [
        {},
        *({axis: word} for axis, words in axes.items() for word in words[1:] if axis not in ("mask", "dtype")),
    ]
    choices = (plain | {"mask": m, "dtype": d} | other for other, m, d in product(others, axes["mask"], axes["dtype"]))
    plainest = next(filter(serves, choices), None)
    if plainest is None:
        return {}
    return {axis: [w for w in words if serves({**plainest, axis: w})] for axis, words in axes.items()}


@cache
def _pairs(axes: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Choose a word of each axis for each case."""
    from allpairspy import AllPairs  # noqa: PLC0415  # a base under another interpreter has torch and nothing else

    return [tuple(words) for words in AllPairs(list(map(list, axes)))] if axes else ()
