"""The contract of a kernel: a rule is tried from the smallest input up, and holds, is refused, or fails."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .cases import Shape

HOLDS, REFUSED, FAILS = "holds", "refused", "fails"
# The smallest first; two head sizes, as many queries as keys and fewer, and more than 1,024 keys.
SIZES = (
    "b1h1t1d64",
    "b1h1t2d64",
    "b2h2t3k5d64",
    "b1h1t5k9d128",
    "b1h2t20d64",
    "b1h2t17k33d64",
    "b1h2t65k130d64",
    "b1h1t3k1100d64",
)

Attend = Callable[..., Tensor]
Complaints = Iterator[str]


@dataclass(frozen=True)
class Inputs:
    """One problem: q (B, Hq, Tq, D), k (B, Hkv, Tk, D), v (B, Hkv, Tk, D), and the masks that fit it."""

    q: Tensor
    k: Tensor
    v: Tensor

    @classmethod
    def make(cls, shape: Shape, dtype: torch.dtype, device: str, factor: float = 1.0) -> "Inputs":
        generator = torch.Generator().manual_seed(0)
        kv = shape.batch, shape.kv_heads, shape.keys
        q = torch.randn(shape.batch, shape.heads, shape.queries, shape.head_size, generator=generator) * factor
        k = torch.randn(*kv, shape.head_size, generator=generator) * factor
        v = torch.randn(*kv, shape.value_size, generator=generator)
        return cls(*(t.to(dtype).to(device) for t in (q, k, v)))

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.q, self.k, self.v

    @property
    def upstream(self) -> Tensor:
        """A gradient to reach the output, (B, Hq, Tq, Dv)."""
        generator = torch.Generator().manual_seed(2)
        return torch.randn(*self.q.shape[:3], self.v.shape[3], generator=generator).to(self.q)

    def seen(self, batch: int = 1, heads: int = 1) -> Tensor:
        """Draw which keys are seen, bool (batch, heads, Tq, Tk): three in four, and always the last."""
        generator = torch.Generator().manual_seed(1)
        seen = torch.rand(batch, heads, self.q.shape[2], self.k.shape[2], generator=generator) < 0.75
        seen[..., -1:] = True
        return seen

    def mask(self, kind: str | None, hidden: str | None = None) -> Tensor | None:
        """Make a mask (1, 1, Tq, Tk) that hides a key in four, and what ``HIDDEN`` has by that name."""
        if kind is None:
            return None
        seen = self.seen()
        if hidden == NO_KEY:
            seen[:] = True
        elif hidden is not None:
            rows, columns = HIDDEN[hidden]
            seen[:, :, rows, columns(seen.shape[3])] = False
        return self.written(seen, kind)

    def written(self, seen: Tensor, kind: str) -> Tensor:
        """Convert a bool mask to a kind of mask: where it adds, normal biases, and -inf or the lowest value."""
        seen = seen.to(self.q.device)
        if kind == "bool":
            return seen
        bias = torch.randn(seen.shape, generator=torch.Generator().manual_seed(3)).to(self.q)
        return bias.masked_fill(~seen, torch.finfo(bias.dtype).min if kind == "lowest" else -torch.inf)


NO_KEY = "no key"  # a mask that hides nothing, for which a kernel may have a shorter way
# What a mask hides besides one key in four: from these queries, these keys of so many.
HIDDEN: dict[str, tuple[slice, Callable[[int], slice]]] = {
    "every key from one query": (slice(0, 1), lambda _: slice(None)),
    "every key from all queries": (slice(None), lambda _: slice(None)),
    "the first half of the keys from every second query": (slice(0, None, 2), lambda keys: slice(0, keys // 2)),
    "every key but the last from the first queries": (slice(0, 17), lambda keys: slice(0, keys - 1)),
}


@dataclass(frozen=True)
class Rule:
    """One sentence of the contract. ``complaints`` yields what is wrong with a kernel on one problem.

    Each of the ``variants`` is a row of the table. ``factor`` multiplies q and k.
    """

    name: str
    complaints: Callable[..., Complaints]
    variants: Sequence[tuple[str, dict[str, Any]]] = (("", {}),)
    sizes: Sequence[str] = SIZES
    factor: float = 1.0


@dataclass(frozen=True)
class Finding:
    """What one variant of a rule found of a kernel; ``why`` is set where the rule does not hold."""

    rule: str
    variant: str
    outcome: str
    why: str = ""
    smallest: str = ""  # the input that shows it


def examine(
    kernel: Attend, rules: Sequence[Rule], device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Iterator[Finding]:
    """Try every variant of the rules on a kernel."""
    for rule in rules:
        for variant, options in rule.variants:
            yield _try(kernel, rule, variant, options, device=device, dtype=options.get("dtype", dtype))


def _try(
    kernel: Attend, rule: Rule, variant: str, options: dict[str, Any], *, device: str, dtype: torch.dtype
) -> Finding:
    given = {name: value for name, value in options.items() if name != "dtype"}
    refusal, held = "", False
    for size in rule.sizes:
        shape = Shape.parse(size)
        if options.get("causal") and shape.queries > shape.keys:
            continue
        inputs = Inputs.make(shape, dtype, device, rule.factor)
        try:
            complaint = next(rule.complaints(kernel, inputs, **given), None)
        except NotImplementedError as refused:
            refusal = refusal or str(refused).partition("\n")[0]
            continue
        except (Exception, SystemExit) as error:  # noqa: BLE001  # any exception is the kernel's answer
            complaint = f"it raises {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if complaint is not None:
            return Finding(rule.name, variant, FAILS, complaint, f"{size} {str(dtype).removeprefix('torch.')} {device}")
        held = True
    return Finding(rule.name, variant, HOLDS) if held else Finding(rule.name, variant, REFUSED, refusal)
