"""The contract of a kernel as rules: each is tried from the smallest input up, and holds, is refused, or fails.

Over 300 lines: the rules are one table, and each is a few lines.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from attention import reference

from ..observing.drift import hold_to_budget
from .cases import Shape
from .naive import naive_attention

HOLDS, REFUSED, FAILS = "holds", "refused", "fails"
# The smallest first; two head sizes, and more than 1,024 keys.
SIZES = ("b1h1t1d64", "b1h1t2d64", "b2h2t3k5d64", "b1h1t5k9d128", "b1h2t17k33d64", "b2h4t65k130d64", "b1h1t3k1100d64")
# A single key head, and groups of two and three.
GROUPED = ("b1h2kv1t2d64", "b1h3kv1t2k3d64", "b2h4kv2t3k5d64", "b1h6kv2t3k5d128", "b1h6kv2t17k33d64")
TOLERANCE = 1e-4  # by which rounding may break an identity

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

    def mask(self, kind: str | None, blind: int | None = None) -> Tensor | None:
        """Hide one key in four by a mask (1, 1, Tq, Tk), never the last; from the query ``blind``, hide every key."""
        if kind is None:
            return None
        generator = torch.Generator().manual_seed(1)
        seen = torch.rand(1, 1, self.q.shape[2], self.k.shape[2], generator=generator) < 0.75
        seen[..., -1] = True
        if blind is not None:
            seen[:, :, blind] = False
        return self.written(seen, kind)

    def written(self, seen: Tensor, kind: str) -> Tensor:
        """Convert a bool mask to a kind of mask."""
        seen = seen.to(self.q.device)
        if kind == "bool":
            return seen
        return torch.zeros(seen.shape, dtype=self.q.dtype, device=seen.device).masked_fill(~seen, -torch.inf)


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


def examine(kernel: Attend, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Iterator[Finding]:
    """Try every rule of the contract on a kernel."""
    for rule in RULES:
        for variant, options in rule.variants:
            yield _try(kernel, rule, variant, options, device=device, dtype=options.get("dtype", dtype))


def _try(
    kernel: Attend, rule: Rule, variant: str, options: dict[str, Any], *, device: str, dtype: torch.dtype
) -> Finding:
    given = {name: value for name, value in options.items() if name != "dtype"}
    refusal, held = "", False
    for size in rule.sizes:
        inputs = Inputs.make(Shape.parse(size), dtype, device, rule.factor)
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


def _budget(
    kernel: Attend, x: Inputs, *, kind: str | None = None, blind: int | None = None, backward: bool = False, **more: Any
) -> Complaints:
    """Output and gradients against the oracle."""
    capped = more.pop("capped", True)
    options = {"mask": x.mask(kind, blind), "causal": False, "scale": None} | more
    generator = torch.Generator().manual_seed(2)
    upstream = torch.randn(*x.q.shape[:3], x.v.shape[3], generator=generator).to(x.q)

    given = dict(zip(("q", "k", "v"), x.tensors, strict=True))
    if options.pop("sinks", False):
        given["sinks"] = torch.randn(x.q.shape[1], generator=generator).to(x.q)

    def results(attend: Attend, dtype: torch.dtype) -> dict[str, Tensor]:
        leaves = {name: t.to(dtype).detach().requires_grad_(backward) for name, t in given.items()}
        with torch.set_grad_enabled(backward):
            out = attend(**leaves, **options)
            found = {"out": out.detach()}
            if backward:
                gradients = torch.autograd.grad(out, list(leaves.values()), upstream.to(out.dtype))
                found |= {f"d{name}": g for name, g in zip(leaves, gradients, strict=True)}
        return found

    got, exact, naive = (
        results(kernel, x.q.dtype),
        results(reference, torch.float64),
        results(naive_attention, x.q.dtype),
    )
    if got["out"].shape != exact["out"].shape:
        yield f"the output is {tuple(got['out'].shape)} and not {tuple(exact['out'].shape)}"
    for error in hold_to_budget(got, exact, naive, looser=1.0 if capped else inf):
        # For few tokens the yardstick may be exact by chance, so a few units in the last place are allowed.
        far = next(_close(got[error.name].double(), exact[error.name], "it", 8 * torch.finfo(x.q.dtype).eps), None)
        yield from error.complaints if far is not None else ()


def _attend(kernel: Attend, x: Inputs, **options: Any) -> Tensor:
    q, k, v = (options.pop(name, t) for name, t in zip("qkv", x.tensors, strict=True))
    with torch.no_grad():
        return kernel(q, k, v, **{"mask": None, "causal": False, "scale": None} | options)


def _close(got: Tensor, want: Tensor, what: str, tolerance: float | None = None) -> Complaints:
    size = 1 + want.abs().nan_to_num().max().item() if want.numel() else 1.0
    worst = (got - want).abs().max().item() if want.numel() else 0.0
    # Negated so that NaN is a complaint.
    tolerance = max(TOLERANCE, 8 * torch.finfo(got.dtype).eps) if tolerance is None else tolerance
    if not worst <= size * tolerance:
        yield f"{what} differs by {worst:.2g}"


def _future(kernel: Attend, x: Inputs) -> Complaints:
    hidden = x.k.shape[2] - 1  # the first queries do not see the last key
    k, v = x.k.clone(), x.v.clone()
    k[:, :, hidden], v[:, :, hidden] = 9.0, 1e4
    one, two = (_attend(kernel, x, causal=True, k=kk, v=vv)[:, :, :-1] for kk, vv in ((x.k, x.v), (k, v)))
    if not torch.equal(one, two):
        yield "a key in the future changes the output"


def _bottom_right(kernel: Attend, x: Inputs) -> Complaints:
    full = torch.ones(x.q.shape[2], x.k.shape[2], dtype=torch.bool).tril(x.k.shape[2] - x.q.shape[2])
    want = reference(*(t.double() for t in x.tensors), mask=x.written(full, "bool")).to(x.q.dtype)
    yield from _close(_attend(kernel, x, causal=True), want, "a query sees other keys: the output")


def _blind(kernel: Attend, x: Inputs, *, kind: str, backward: bool) -> Complaints:
    leaves = [t.detach().requires_grad_(backward) for t in x.tensors]
    with torch.set_grad_enabled(backward):
        out = kernel(*leaves, mask=x.mask(kind, blind=0), causal=False, scale=None)
    if not (out[:, :, 0] == 0).all():
        yield f"the row is not zero: {out[0, 0, 0, 0].item():.3g}"
    if backward and not (torch.autograd.grad(out.sum(), leaves[0])[0][:, :, 0] == 0).all():
        yield "the gradient of its query is not zero"


def _true_attends(kernel: Attend, x: Inputs) -> Complaints:
    own = torch.eye(x.q.shape[2], x.k.shape[2], dtype=torch.bool)
    got = _attend(kernel, x, mask=x.written(own, "bool"))
    yield from _close(got, x.v[:, :, : x.q.shape[2]], "a query that sees one key alone: its output")


def _broadcast(kernel: Attend, x: Inputs, *, kind: str) -> Complaints:
    batch, heads, queries, _ = x.q.shape
    whole = x.mask(kind)
    assert whole is not None  # of a kind
    for small in (whole[0, 0, -1], whole[0, 0], whole[:, :, -1:], whole, whole.expand(batch, 1, -1, -1)):
        wide = small.expand(batch, heads, queries, -1).contiguous()
        what = f"with a mask of {tuple(small.shape)} the output"
        yield from _close(_attend(kernel, x, mask=small), _attend(kernel, x, mask=wide), what)


def _grouped(kernel: Attend, x: Inputs, *, causal: bool) -> Complaints:
    k, v = (t.repeat_interleave(x.q.shape[1] // t.shape[1], dim=1) for t in (x.k, x.v))
    got, want = _attend(kernel, x, causal=causal), _attend(kernel, x, causal=causal, k=k, v=v)
    yield from _close(got, want, "with its key heads repeated, the output")


def _differentiable(x: Inputs) -> tuple[list[Tensor], Tensor]:
    """Return q, k and v, of which gradients can be taken, and a gradient to reach the output."""
    upstream = torch.randn(*x.q.shape[:3], x.v.shape[3], generator=torch.Generator().manual_seed(2))
    return [t.detach().requires_grad_() for t in x.tensors], upstream.to(x.q)


def _same_gradients(got: Sequence[Tensor], want: Sequence[Tensor]) -> Complaints:
    for name, one, other in zip("qkv", got, want, strict=True):
        yield from _close(one, other, f"the gradient of {name}")


def _second_backward(kernel: Attend, x: Inputs, *, causal: bool) -> Complaints:
    leaves, upstream = _differentiable(x)
    out = kernel(*leaves, mask=None, causal=causal, scale=None)
    first, second = (torch.autograd.grad(out, leaves, upstream, retain_graph=True) for _ in range(2))
    yield from _same_gradients(second, first)


def _checkpointed(kernel: Attend, x: Inputs, *, causal: bool) -> Complaints:
    leaves, upstream = _differentiable(x)

    def attend(*leaves: Tensor) -> Tensor:
        return kernel(*leaves, mask=None, causal=causal, scale=None)

    plain = torch.autograd.grad(attend(*leaves), leaves, upstream)
    out = checkpoint(attend, *leaves, use_reentrant=False)
    yield from _same_gradients(torch.autograd.grad(out, leaves, upstream), plain)


_LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens before heads": lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
    "head size before tokens": lambda t: t.mT.contiguous().mT,
    "part of more tokens": lambda t: torch.cat([t, t, t], dim=2)[:, :, t.shape[2] : 2 * t.shape[2]],
    "every second of the head size": lambda t: torch.stack([t, -t], dim=-1).flatten(-2)[..., ::2],
}


def _layouts(kernel: Attend, x: Inputs, *, layout: str) -> Complaints:
    q, k, v = map(_LAYOUTS[layout], x.tensors)
    yield from _close(_attend(kernel, x, q=q, k=k, v=v), _attend(kernel, x), "the output")


def _repeatable(kernel: Attend, x: Inputs, *, causal: bool) -> Complaints:
    first = _attend(kernel, x, causal=causal).clone()
    if not all(torch.equal(first, _attend(kernel, x, causal=causal)) for _ in range(3)):
        yield "the same call gives other bits"


def _batch(kernel: Attend, x: Inputs, *, causal: bool) -> Complaints:
    whole = _attend(kernel, x, causal=causal)
    for i in range(x.q.shape[0]):
        q, k, v = (t[i : i + 1] for t in x.tensors)
        yield from _close(_attend(kernel, x, q=q, k=k, v=v, causal=causal), whole[i : i + 1], "an item alone")


def _unwritten(kernel: Attend, x: Inputs) -> Complaints:
    before = [t.clone() for t in x.tensors]
    _attend(kernel, x)
    if not all(torch.equal(t, b) for t, b in zip(x.tensors, before, strict=True)):
        yield "it writes to its inputs"


def _own_output(kernel: Attend, x: Inputs) -> Complaints:
    first = _attend(kernel, x)
    kept = first.clone()
    _attend(kernel, x, v=x.v + 1)
    if not torch.equal(first, kept):
        yield "the next call changes the output of the one before"


def _key_order(kernel: Attend, x: Inputs) -> Complaints:
    yield from _close(
        _attend(kernel, x, k=x.k.flip(2), v=x.v.flip(2)), _attend(kernel, x), "with keys in reverse, the output"
    )


def _ones(kernel: Attend, x: Inputs, *, causal: bool) -> Complaints:
    out = _attend(kernel, x, v=torch.ones_like(x.v), causal=causal)
    yield from _close(out, torch.ones_like(out), "of values of one, the output")


def _nan_query(kernel: Attend, x: Inputs, *, causal: bool) -> Complaints:
    q = x.q.clone()
    q[:, :, -1, 3] = torch.nan
    out = _attend(kernel, x, q=q, causal=causal)
    if not out[:, :, -1].isnan().all():
        yield "the row of a query that holds NaN is not NaN"
    if out[:, :, :-1].isnan().any():
        yield "NaN in a query reaches other rows"


def _hidden_value(kernel: Attend, x: Inputs, *, kind: str, value: float) -> Complaints:
    seen = torch.ones(1, 1, x.q.shape[2], x.k.shape[2], dtype=torch.bool)
    seen[..., 0] = x.k.shape[2] == 1  # a single key stays visible
    v = x.v.clone()
    v[:, :, 0] = value if x.k.shape[2] > 1 else v[:, :, 0]
    if not _attend(kernel, x, mask=x.written(seen, kind), v=v).isfinite().all():
        yield f"a value of {value} that is masked from every query reaches the output"


def _decode(kernel: Attend, x: Inputs) -> Complaints:
    whole = _attend(kernel, x, causal=True)[:, :, -1:]
    yield from _close(_attend(kernel, x, q=x.q[:, :, -1:], causal=True), whole, "the last query alone: its output")


def _chunks(kernel: Attend, x: Inputs) -> Complaints:
    queries, keys = x.q.shape[2], x.k.shape[2]
    half = max(1, queries // 2)
    first, end = slice(0, half), keys - queries + half
    part = _attend(kernel, x, q=x.q[:, :, first], k=x.k[:, :, :end], v=x.v[:, :, :end], causal=True)
    yield from _close(part, _attend(kernel, x, causal=True)[:, :, first], "the first half of the queries: its output")


def _padded(kernel: Attend, x: Inputs, *, kind: str) -> Complaints:
    keys = max(1, x.k.shape[2] - 1)
    seen = torch.arange(x.k.shape[2]) < keys
    got = _attend(kernel, x, mask=x.written(seen.expand(1, 1, x.q.shape[2], -1), kind))
    want = _attend(kernel, x, k=x.k[:, :, :keys], v=x.v[:, :, :keys])
    yield from _close(got, want, "beside a key that is padding, the output")


def _empty(kernel: Attend, x: Inputs, *, what: str) -> Complaints:
    batch, queries = (0, x.q.shape[2]) if what == "batch" else (x.q.shape[0], 0)
    q, k, v = x.q[:batch, :, :queries], x.k[:batch], x.v[:batch]
    out = _attend(kernel, x, q=q, k=k, v=v)
    if out.shape != (*q.shape[:3], v.shape[3]):
        yield f"the output is {tuple(out.shape)}"


_KINDS: tuple[tuple[str, dict[str, Any]], ...] = (("bool mask", {"kind": "bool"}), ("float mask", {"kind": "float"}))
_CAUSAL: tuple[tuple[str, dict[str, Any]], ...] = (("full", {"causal": False}), ("causal", {"causal": True}))
_LOW: tuple[tuple[str, dict[str, Any]], ...] = (("bf16", {"dtype": torch.bfloat16}), ("fp16", {"dtype": torch.float16}))
_SCORING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("softcap", {"softcap": 2.0}),
    ("softcap, causal, float mask", {"softcap": 2.0, "causal": True, "kind": "float"}),
    ("sinks", {"sinks": True}),
    ("sinks, causal, bool mask", {"sinks": True, "causal": True, "kind": "bool"}),
)


def _with(variants: Sequence[tuple[str, dict[str, Any]]], **more: Any) -> tuple[tuple[str, dict[str, Any]], ...]:
    return tuple((name, options | more) for name, options in variants)


RULES = (
    Rule(
        "output is within the error budget",
        _budget,
        (
            *_CAUSAL,
            *_KINDS,
            *((f"causal, {name}", options | {"causal": True}) for name, options in _KINDS),
            *_LOW,
            ("window", {"window": 2}),
            ("causal, window", {"window": 2, "causal": True}),
            *_SCORING,
        ),
    ),
    Rule(
        "gradients are within the error budget",
        _budget,
        _with(
            (*_CAUSAL, *_KINDS, *((f"causal, {n}", o | {"causal": True}) for n, o in _KINDS), *_LOW, *_SCORING),
            backward=True,
        ),
    ),
    Rule("gradients of grouped queries are within the error budget", _budget, _with(_CAUSAL, backward=True), GROUPED),
    Rule("a second backward pass through a graph gives the same gradients", _second_backward, _CAUSAL),
    Rule("under torch.utils.checkpoint the gradients are the same", _checkpointed, _CAUSAL),
    Rule("causal: the last query sees every key, each earlier one a key less", _bottom_right),
    Rule("causal: a future key changes no bit", _future),
    Rule("a query that sees no key gives zeros", _blind, _with(_KINDS, backward=False)),
    Rule("a query that sees no key has no gradient", _blind, _with(_KINDS, backward=True)),
    Rule("a bool mask is True where a query attends", _true_attends),
    Rule("a mask of any shape that broadcasts does as the whole one", _broadcast, _KINDS),
    Rule("grouped queries read the key head of their group", _grouped, _CAUSAL, GROUPED),
    Rule(
        "a scale of any sign does what the formula says",
        _budget,
        tuple((f"{scale:g}", {"scale": scale, "capped": False}) for scale in (0.3, 0.0, -0.5)),
    ),
    Rule("values may have a size of their own", _budget, sizes=("b1h1t1d64v32", "b2h2t3k5d64v32")),
    Rule("layout of the inputs does not matter", _layouts, tuple((name, {"layout": name}) for name in _LAYOUTS)),
    Rule("large scores stay finite and right", _budget, _with(_LOW, capped=False), factor=100.0),
    Rule("a call repeated gives the same bits", _repeatable, _CAUSAL),
    Rule("items of a batch do not know of each other", _batch, _CAUSAL),
    Rule("inputs are not written to", _unwritten),
    Rule("an output stays as it is when the next call comes", _own_output),
    Rule("order of keys does not matter", _key_order),
    Rule("weights sum to one", _ones, _CAUSAL),
    Rule("NaN in a query makes its row NaN and no other", _nan_query, _CAUSAL),
    Rule(
        "a value that is masked from all reaches no output",
        _hidden_value,
        tuple((f"{name}, {value}", o | {"value": value}) for name, o in _KINDS for value in (1e30, float("nan"))),
    ),
    Rule("the last query alone gives the last row", _decode),
    Rule("a prefill in chunks gives the rows of the whole", _chunks),
    Rule("padding that is masked might as well not be there", _padded, _KINDS),
    Rule(
        "nothing gives nothing, of the right shape",
        _empty,
        (("batch", {"what": "batch"}), ("queries", {"what": "queries"})),
    ),
)
