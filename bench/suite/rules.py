"""The rules of a kernel's contract, and what each complains of.

Over 300 lines: the rules are one table, and each is a few lines.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from math import inf, isfinite, isnan, nan
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from attention import reference

from ..observing.drift import hold_to_budget
from .contract import HIDDEN, NO_KEY, SIZES, Attend, Complaints, Inputs, Rule
from .naive import naive_attention

# A single key head, and groups of two and three.
GROUPED = ("b1h2kv1t2d64", "b1h3kv1t2k3d64", "b2h4kv2t3k5d64", "b1h6kv2t3k5d128", "b1h6kv2t17k33d64")
# Longer than most windows. No query is beyond every key: kernels from anywhere differ in what a window that hides every
# key gives, and our own have that in ``tests/attention/test_contract.py``.
FAR = ("b1h1t1d64", "b2h2t3k5d64", "b1h4kv2t130d64", "b1h2t33k149d64", "b1h2t1k149d64")
# A vector of fp32 values has at most 16 lanes: with fewer keys, kernels for CPUs may lose NaN.
LANES = (*SIZES, "b1h1t5k15d64")
WINDOWS = (1, 2, 16, 63, 65, 10**12)
TOLERANCE = 1e-4  # by which rounding may break an identity, but in float64
TOLERANCE_FP64 = 1e-9
FEW_KEYS = 32  # below which the yardstick's error is chance


def _budget(
    kernel: Attend,
    x: Inputs,
    *,
    kind: str | None = None,
    hidden: str | None = None,
    backward: bool = False,
    learned: bool = False,
    sinks: bool = False,
    capped: bool = True,
    **more: Any,
) -> Complaints:
    """Hold output and gradients, that of a ``learned`` mask too, to the oracle."""
    options = {"mask": x.mask(kind, hidden), "causal": False, "scale": None} | more
    given = dict(zip(("q", "k", "v"), x.tensors, strict=True))
    if sinks:
        given["sinks"] = torch.randn(x.q.shape[1], generator=torch.Generator().manual_seed(4)).to(x.q)
    if learned:
        given["mask"] = options.pop("mask")

    def results(attend: Attend, dtype: torch.dtype) -> dict[str, Tensor]:
        leaves = {name: t.to(dtype).detach().requires_grad_(backward) for name, t in given.items()}
        with torch.set_grad_enabled(backward):
            out = attend(**leaves, **options)
            found = {"out": out.detach()}
            if backward:
                gradients = torch.autograd.grad(out, list(leaves.values()), x.upstream.to(out.dtype))
                found |= {f"d{name}": g for name, g in zip(leaves, gradients, strict=True)}
        return found

    got, exact = results(kernel, x.q.dtype), results(reference, torch.float64)
    for name, want in exact.items():
        if (got[name].shape, got[name].dtype) != (want.shape, x.q.dtype):
            yield f"{name} is {tuple(got[name].shape)} in {got[name].dtype} and not {tuple(want.shape)} in {x.q.dtype}"
            return
    # Of few keys, or scores that saturate, the yardstick may be exact: a few units in the last place are allowed.
    few = x.k.shape[2] < FEW_KEYS or hidden is not None or not capped
    allowed = max(32 * torch.finfo(torch.float32).eps, 8 * torch.finfo(x.q.dtype).eps) if few else 0.0
    far = {name for name, want in exact.items() if any(_close(got[name].double(), want, name, allowed))}
    if far:
        naive = results(naive_attention, x.q.dtype)
        for error in hold_to_budget(got, exact, naive, looser=1.0 if capped else inf):
            yield from error.complaints if error.name in far else ()


def _each(name: str, values: Sequence[Any], text: str) -> Callable[..., Complaints]:
    """Hold results to the budget with each value of an option; the text names a value in a complaint."""

    def complaints(kernel: Attend, x: Inputs, **options: Any) -> Complaints:
        for value in values:
            for complaint in _budget(kernel, x, **{name: value}, **options):
                yield f"{text.format(value)}, {complaint}"

    return complaints


def _attend(kernel: Attend, x: Inputs, **options: Any) -> Tensor:
    q, k, v = (options.pop(name, t) for name, t in zip("qkv", x.tensors, strict=True))
    with torch.no_grad():
        return kernel(q, k, v, **{"mask": None, "causal": False, "scale": None} | options)


def differentiate(
    kernel: Attend, inputs: Sequence[Tensor], upstream: Tensor, *, backward: bool = True, **options: Any
) -> list[Tensor]:
    """Return the output of q, k and v, and their gradients."""
    leaves = [t.detach().requires_grad_(backward) for t in inputs]
    with torch.set_grad_enabled(backward):
        out = kernel(*leaves, **{"mask": None, "causal": False, "scale": None} | options)
        return [out.detach(), *(torch.autograd.grad(out, leaves, upstream) if backward else ())]


def _close(got: Tensor, want: Tensor, what: str, tolerance: float | None = None) -> Complaints:
    size = 1 + want.abs().nan_to_num().max().item() if want.numel() else 1.0
    worst = (got - want).abs().max().item() if want.numel() else 0.0
    if tolerance is None:
        tolerance = TOLERANCE_FP64 if got.dtype == torch.float64 else max(TOLERANCE, 8 * torch.finfo(got.dtype).eps)
    # Negated so that NaN is a complaint.
    if not worst <= size * tolerance:
        yield f"{what} differs by {worst:.2g}"


def _all_close(got: Sequence[Tensor], want: Sequence[Tensor]) -> Complaints:
    """Compare outputs and the gradients of q, k and v."""
    names = ("the output", "the gradient of q", "the gradient of k", "the gradient of v")
    for name, one, other in zip(names, got, want, strict=False):
        yield from _close(one, other, name)


def _future(kernel: Attend, x: Inputs) -> Complaints:
    keys, queries = x.k.shape[2], x.q.shape[2]
    for last in {queries - 2, queries // 2} - {queries - 1, -1}:
        future = slice(last + keys - queries + 1, None)
        k, v = x.k.clone(), x.v.clone()
        k[:, :, future], v[:, :, future] = 9.0, 1e4
        one, two = (_attend(kernel, x, causal=True, k=kk, v=vv)[:, :, : last + 1] for kk, vv in ((x.k, x.v), (k, v)))
        if not torch.equal(one, two):
            yield "a key in the future changes the output"


def _near(kernel: Attend, x: Inputs, *, causal: bool, windows: Sequence[int | None]) -> Complaints:
    """Compare with a mask of the keys that a query sees by their distance, negative in the future."""
    queries, keys = x.q.shape[2], x.k.shape[2]
    distance = torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)  # (Tq, Tk)
    for window in windows:
        seen = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
        seen = seen if window is None else seen & (distance.abs() < window)
        want = reference(*(t.double() for t in x.tensors), mask=x.written(seen, "bool")).to(x.q.dtype)
        options: dict[str, Any] = {} if window is None else {"window": window}
        where = "" if window is None else f" in a window of {window}"
        got = _attend(kernel, x, causal=causal, **options)
        yield from _close(got, want, f"a query sees other keys{where}: the output")


def _blind(kernel: Attend, x: Inputs, *, kind: str, backward: bool) -> Complaints:
    leaves = [t.detach().requires_grad_(backward) for t in x.tensors]
    with torch.set_grad_enabled(backward):
        out = kernel(*leaves, mask=x.mask(kind, "every key from one query"), causal=False, scale=None)
    if not (out[:, :, 0] == 0).all():
        yield f"the row is not zero: {out[0, 0, 0, 0].item():.3g}"
    if not backward:
        return
    if not (torch.autograd.grad(out.sum(), leaves[0], retain_graph=True)[0][:, :, 0] == 0).all():
        yield "the gradient of its query is not zero"
    if not all(g.isfinite().all() for g in torch.autograd.grad(out[:, :, 1:].sum(), leaves)):
        yield "a gradient of the other rows is not finite"


def _true_attends(kernel: Attend, x: Inputs) -> Complaints:
    own = torch.eye(x.q.shape[2], x.k.shape[2], dtype=torch.bool)
    got = _attend(kernel, x, mask=x.written(own, "bool"))
    yield from _close(got, x.v[:, :, : x.q.shape[2]], "a query that sees one key alone: its output")


def _broadcast(kernel: Attend, x: Inputs, *, kind: str, **options: Any) -> Complaints:
    """Try a mask with each dimension whole, of size 1, or, before the first that is whole, absent."""
    whole = x.written(x.seen(x.q.shape[0], x.q.shape[1]), kind)
    for kept in product((slice(None), slice(-1, None)), repeat=4):
        mask = whole[kept]
        lead = next((i for i, size in enumerate(mask.shape) if size > 1), 4)
        for small in (mask, mask[(0,) * lead]) if lead else (mask,):
            for complaint in _budget(kernel, x, mask=small, **options):
                yield f"with a mask of {tuple(small.shape)}, {complaint}"


def _grouped(kernel: Attend, x: Inputs, *, causal: bool, kind: str | None = None, backward: bool = False) -> Complaints:
    group = x.q.shape[1] // x.k.shape[1]
    mask = None if kind is None else x.written(x.seen(x.q.shape[0], x.q.shape[1]), kind)
    alone = [t.detach().requires_grad_(backward) for t in x.tensors]
    repeated = [alone[0], *(t.repeat_interleave(group, dim=1) for t in alone[1:])]
    outs = [kernel(*t, mask=mask, causal=causal, scale=None) for t in (alone, repeated)]
    found = [[out, *(torch.autograd.grad(out, alone, x.upstream) if backward else ())] for out in outs]
    for complaint in _all_close(*found):
        yield f"with its key heads repeated, {complaint}"


def _second_backward(kernel: Attend, x: Inputs, *, causal: bool) -> Complaints:
    leaves = [t.detach().requires_grad_() for t in x.tensors]
    out = kernel(*leaves, mask=None, causal=causal, scale=None)
    first, second = (torch.autograd.grad(out, leaves, x.upstream, retain_graph=True) for _ in range(2))
    yield from _all_close([out, *second], [out, *first])


def _checkpointed(kernel: Attend, x: Inputs, *, causal: bool) -> Complaints:
    def attend(*leaves: Tensor, **options: Any) -> Tensor:
        out: Tensor = checkpoint(partial(kernel, **options), *leaves, use_reentrant=False)
        return out

    found = (differentiate(each, x.tensors, x.upstream, causal=causal) for each in (attend, kernel))
    yield from _all_close(*found)


_LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens before heads": lambda t: t.transpose(1, 2).contiguous().transpose(1, 2),
    "head size before tokens": lambda t: t.mT.contiguous().mT,
    "batch last": lambda t: t.movedim(0, -1).contiguous().movedim(-1, 0),
    "part of more tokens": lambda t: torch.cat([t, t, t], dim=2)[:, :, t.shape[2] : 2 * t.shape[2]],
    "every second of the head size": lambda t: torch.stack([t, -t], dim=-1).flatten(-2)[..., ::2],
    "one head for all": lambda t: t[:1, :1].expand(t.shape),
}


def _layouts(kernel: Attend, x: Inputs, *, layout: str, kind: str | None = None, **options: Any) -> Complaints:
    """Compare with contiguous tensors; with a mask, only that lies otherwise."""
    lay = _LAYOUTS[layout]
    plain = [*x.tensors, x.upstream] if kind else [lay(t).contiguous() for t in (*x.tensors, x.upstream)]
    mask = None if kind is None else x.written(x.seen(x.q.shape[0], x.q.shape[1]), kind)
    strided = plain if kind else [lay(t) for t in (*x.tensors, x.upstream)]
    found = differentiate(kernel, strided[:3], strided[3], mask=None if mask is None else lay(mask), **options)
    yield from _all_close(found, differentiate(kernel, plain[:3], plain[3], mask=mask, **options))


def _repeatable(kernel: Attend, x: Inputs, *, causal: bool) -> Complaints:
    first = _attend(kernel, x, causal=causal).clone()
    if not all(torch.equal(first, _attend(kernel, x, causal=causal)) for _ in range(3)):
        yield "the same call gives other bits"


def _alone(kernel: Attend, x: Inputs, *, causal: bool) -> Complaints:
    """Try each item alone, and each head of the first."""
    whole = _attend(kernel, x, causal=causal)
    items = [(slice(i, i + 1), slice(None)) for i in range(x.q.shape[0])]
    for at in (*items, *((slice(0, 1), slice(i, i + 1)) for i in range(x.q.shape[1]))):
        q, k, v = (t[at] for t in x.tensors)
        yield from _close(_attend(kernel, x, q=q, k=k, v=v, causal=causal), whole[at], "an item or head alone")


def _unwritten(kernel: Attend, x: Inputs, *, kind: str | None = None, backward: bool = False) -> Complaints:
    mask = x.mask(kind, "every key from one query")
    given = [*x.tensors, x.upstream, *([] if mask is None else [mask])]
    before = [t.clone() for t in given]
    differentiate(kernel, given[:3], given[3], backward=backward, mask=mask)
    if not all(torch.equal(t, b) for t, b in zip(given, before, strict=True)):
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


def _nan_query(kernel: Attend, x: Inputs, *, value: float = nan, **options: Any) -> Complaints:
    """Spoil the last query; keys whose scores are infinite are so in either direction, if there are two."""
    options["mask"] = x.mask(options.pop("kind", None))
    q, k = x.q.clone(), x.k.clone()
    q[:, :, -1, 3] = value
    k[..., 3] = k[..., 3].abs() * (1 - 2 * (torch.arange(k.shape[2], device=k.device) % 2))
    out, clean = (_attend(kernel, x, q=each, k=k, **options) for each in (q, x.q))
    row = out[:, :, -1]
    if not (row.isnan() if isnan(value) else row.isnan() | (row == 0)).all():
        yield f"the row of a query that holds {value} is not NaN"
    yield from _close(out[:, :, :-1], clean[:, :, :-1], f"beside a query that holds {value}, another row")


def _nan_key(kernel: Attend, x: Inputs, *, name: str, tokens: slice, **options: Any) -> Complaints:
    """Spoil keys or values, of which every query that sees the first has a row and a gradient that show it."""
    causal, mask = options.get("causal", False), x.mask(options.pop("kind", None))
    seen = torch.ones(x.q.shape[2], x.k.shape[2], dtype=torch.bool)
    seen = seen.tril(x.k.shape[2] - x.q.shape[2]) if causal else seen
    if mask is not None:
        seen = seen & (mask if mask.dtype == torch.bool else mask != -torch.inf)[0, 0].cpu()
    given = dict(zip("qkv", (t.clone() for t in x.tensors), strict=True))
    given[name][:, :, tokens, 3] = torch.nan
    found = differentiate(kernel, [*given.values()], x.upstream, mask=mask, **options)
    # Of a single key the gradient is zero in exact arithmetic.
    for result, what, keys in zip(found, ("row", "gradient"), (1, 2), strict=False):
        if not result[:, :, seen[:, 0] & (seen.sum(dim=1) >= keys)].isnan().any(dim=-1).all():
            yield f"a query sees NaN and its {what} shows none"


def _hidden_value(kernel: Attend, x: Inputs, *, value: float, kind: str = "", **options: Any) -> Complaints:
    """Hide the first key by a mask or, without a kind, from the queries from which a window hides it."""
    queries, keys = x.q.shape[2], x.k.shape[2]
    seen = torch.ones(1, 1, queries, keys, dtype=torch.bool)
    seen[..., 0] = keys == 1  # a single key stays visible
    far = ~seen[0, 0, :, 0] if kind else torch.arange(keys - queries, keys).abs() >= options["window"]
    v = x.v.clone()
    if bool(far.any()):
        v[:, :, 0] = min(value, torch.finfo(v.dtype).max / 1e3) if isfinite(value) else value
    options["mask"] = x.written(seen, kind) if kind else None
    upstream = x.upstream * (torch.ones(queries) if kind else far)[:, None].to(x.upstream)
    found, clean = (differentiate(kernel, (x.q, x.k, values), upstream, **options) for values in (v, x.v))
    if not torch.equal(found[0][:, :, far], clean[0][:, :, far]):
        yield f"a value of {value} that is hidden from a query reaches its output"
    if not kind:  # of the gradients of k and v, those that see the value have a part
        found, clean = ([results[0], results[1][:, :, far]] for results in (found, clean))
    for one, other in zip(found[1:], clean[1:], strict=True):
        yield from _close(one, other, f"beside a hidden value of {value}, a gradient")


def _decode(kernel: Attend, x: Inputs, *, kind: str | None = None) -> Complaints:
    mask = x.mask(kind)
    whole = _attend(kernel, x, causal=True, mask=mask)[:, :, -1:]
    for causal in (True, False):
        row = _attend(kernel, x, q=x.q[:, :, -1:], causal=causal, mask=None if mask is None else mask[:, :, -1:])
        yield from _close(row, whole, "the last query alone: its output")


def _chunks(kernel: Attend, x: Inputs, **options: Any) -> Complaints:
    queries, keys = x.q.shape[2], x.k.shape[2]
    half = max(1, queries // 2)
    whole = _attend(kernel, x, causal=True, **options)
    for part in (slice(0, half), slice(half, queries)):
        end = keys - queries + part.stop
        got = _attend(kernel, x, q=x.q[:, :, part], k=x.k[:, :, :end], v=x.v[:, :, :end], causal=True, **options)
        yield from _close(got, whole[:, :, part], "half of the queries: its output")


def _padded(kernel: Attend, x: Inputs, *, kind: str) -> Complaints:
    keys = max(1, x.k.shape[2] - 1)
    seen = torch.arange(x.k.shape[2]) < keys
    mask = torch.where(seen, 0.0, -torch.inf).to(x.q) if kind == "float" else seen.to(x.q.device)
    got = _attend(kernel, x, mask=mask.expand(1, 1, x.q.shape[2], -1))
    want = _attend(kernel, x, k=x.k[:, :, :keys], v=x.v[:, :, :keys])
    yield from _close(got, want, "beside a key that is padding, the output")


def _beyond(kernel: Attend, x: Inputs) -> Complaints:
    """Lower a row to the end of the dtype's range, where every score is below zero."""
    mask = torch.zeros(1, 1, x.q.shape[2], x.k.shape[2]).to(x.q)
    mask[:, :, 0] = torch.finfo(mask.dtype).min
    leaves = [t.detach().requires_grad_() for t in (x.q.abs(), -x.k.abs(), x.v)]
    out = kernel(*leaves, mask=mask, causal=False, scale=None)
    if not all(t.isfinite().all() for t in (out, *torch.autograd.grad(out[:, :, 1:].sum(), leaves))):
        yield "the output or a gradient is not finite"


def _empty(kernel: Attend, x: Inputs, *, what: str) -> Complaints:
    batch, queries = (0, x.q.shape[2]) if what == "batch" else (x.q.shape[0], 0)
    q, k, v = x.q[:batch, :, :queries], x.k[:batch], x.v[:batch]
    out = _attend(kernel, x, q=q, k=k, v=v)
    if out.shape != (*q.shape[:3], v.shape[3]):
        yield f"the output is {tuple(out.shape)}"


Variants = tuple[tuple[str, dict[str, Any]], ...]
_KINDS: Variants = (("bool mask", {"kind": "bool"}), ("float mask", {"kind": "float"}))
_CAUSAL: Variants = (("full", {"causal": False}), ("causal", {"causal": True}))
_LOW: Variants = (("bf16", {"dtype": torch.bfloat16}), ("fp16", {"dtype": torch.float16}))
_SCORING: Variants = (
    ("softcap", {"softcap": 2.0}),
    ("softcap, causal, float mask", {"softcap": 2.0, "causal": True, "kind": "float"}),
    ("sinks", {"sinks": True}),
    ("sinks, causal, bool mask", {"sinks": True, "causal": True, "kind": "bool"}),
    (
        "sinks, softcap, a query that sees no key",
        {"sinks": True, "softcap": 2.0, "kind": "bool", "hidden": "every key from one query"},
    ),
)


def _with(variants: Variants, **more: Any) -> Variants:
    return tuple((name, options | more) for name, options in variants)


def _both(one: Variants, another: Variants) -> Variants:
    return tuple((f"{a}, {b}", options | more) for a, options in one for b, more in another)


_CAUSAL_KINDS = _both(_CAUSAL[1:], _KINDS)
_ENDS: Variants = (_CAUSAL[0], _CAUSAL[1], _KINDS[0], _CAUSAL_KINDS[1])  # each mask and alignment once

RULES = (
    Rule(
        "output is within the error budget",
        _budget,
        (
            *_CAUSAL,
            *_KINDS,
            *_CAUSAL_KINDS,
            *_LOW,
            *_SCORING,
        ),
        (*SIZES, "b1h2t9k5d64"),
    ),
    Rule(
        "gradients are within the error budget",
        _budget,
        _with((*_CAUSAL, *_KINDS, *_CAUSAL_KINDS, *_LOW, *_both(_LOW, _CAUSAL_KINDS), *_SCORING), backward=True),
        (*SIZES, "b1h2t9k5d64"),
    ),
    Rule("gradients of grouped queries are within the error budget", _budget, _with(_CAUSAL, backward=True), GROUPED),
    Rule(
        "the gradient of a float mask is within the error budget",
        _budget,
        _with(_CAUSAL, kind="float", hidden="every key from one query", backward=True, learned=True),
    ),
    Rule(
        "whatever keys a mask hides, output and gradients are within the error budget",
        _each("hidden", (NO_KEY, *HIDDEN), "with {} hidden"),
        _with((*_KINDS, *_CAUSAL_KINDS), backward=True),
        SIZES[2:],
    ),
    Rule(
        "the dtype's lowest value in a mask hides a key, and lowers a row without losing its gradients",
        _each("hidden", tuple(HIDDEN), "with {} lowered"),
        _with((*_CAUSAL, *_both(_LOW, _CAUSAL)), kind="lowest", backward=True, capped=False),
        SIZES[2:6],
    ),
    Rule(
        "the dtype's lowest value in a mask and a score below zero stay finite", _beyond, (("", {}), *_LOW), factor=3.0
    ),
    Rule(
        "in a window of any size, output and gradients are within the error budget",
        _each("window", WINDOWS, "in a window of {}"),
        _with(_ENDS, backward=True),
        FAR,
    ),
    Rule("a query sees the keys less than a window away", _near, _with(_CAUSAL, windows=WINDOWS), FAR),
    Rule("a second backward pass through a graph gives the same gradients", _second_backward, _CAUSAL),
    Rule("under torch.utils.checkpoint the gradients are the same", _checkpointed, _CAUSAL),
    Rule(
        "causal: the last query sees every key, each earlier one a key less",
        _near,
        (("", {"causal": True, "windows": (None,)}),),
    ),
    Rule("causal: a future key changes no bit", _future),
    Rule("a query that sees no key gives zeros", _blind, _with(_KINDS, backward=False)),
    Rule(
        "a query that sees no key has no gradient",
        _blind,
        (*_with(_KINDS, backward=True), *_both(_LOW, _with(_KINDS, backward=True))),
    ),
    Rule("a bool mask is True where a query attends", _true_attends),
    Rule(
        "a mask of any shape that broadcasts does as the whole one",
        _broadcast,
        (*_KINDS, *_with((("gradients, float mask", {"kind": "float"}),), backward=True, learned=True)),
        ("b2h2t3k5d64", "b2h4kv2t5k7d64"),
    ),
    Rule(
        "grouped queries read the key head of their group",
        _grouped,
        (
            *_CAUSAL,
            ("mask of each head", {"causal": False, "kind": "bool"}),
            ("gradients, mask of each head", {"causal": True, "kind": "float", "backward": True}),
        ),
        GROUPED,
    ),
    Rule(
        "a scale of any sign does what the formula says",
        _budget,
        (
            *((f"{scale:g}", {"scale": scale, "capped": False}) for scale in (0.3, 0.0, -0.5)),
            *(
                (f"gradients, causal, {scale:g}", {"scale": scale, "capped": False, "causal": True, "backward": True})
                for scale in (0.001, 0.0, -0.0, -0.5)
            ),
        ),
    ),
    Rule("values may have a size of their own", _budget, sizes=("b1h1t1d64v32", "b2h2t3k5d64v32", "b1h2t17k33d64v96")),
    Rule(
        "layout of the inputs does not matter",
        _layouts,
        (
            *((name, {"layout": name, "backward": False}) for name in _LAYOUTS),
            ("bool mask", {"layout": "head size before tokens", "kind": "bool", "backward": False}),
        ),
    ),
    Rule(
        "layout of inputs and upstream gradients does not matter to gradients",
        _layouts,
        (
            *((name, {"layout": name, "causal": True}) for name in _LAYOUTS),
            ("float mask", {"layout": "part of more tokens", "kind": "float"}),
        ),
    ),
    Rule(
        "large scores stay finite and right",
        _budget,
        _with(
            (*_LOW, *_both(_LOW, (("gradients, bool mask", {"kind": "bool", "backward": True}),))),
            capped=False,
        ),
        factor=100.0,
    ),
    Rule("a call repeated gives the same bits", _repeatable, _CAUSAL),
    Rule("items of a batch do not know of each other", _alone, _CAUSAL),
    Rule("inputs are not written to", _unwritten, (("", {}), *_both((("gradients", {"backward": True}),), _KINDS))),
    Rule("an output stays as it is when the next call comes", _own_output),
    Rule("order of keys does not matter", _key_order),
    Rule("weights sum to one", _ones, _CAUSAL),
    Rule("NaN in a query makes its row NaN and no other", _nan_query, (*_CAUSAL, *_KINDS, *_CAUSAL_KINDS), LANES),
    Rule(
        "inf in a query makes its row NaN or zero and leaves the others",
        _nan_query,
        _both((*_CAUSAL, *_LOW), tuple((str(value), {"value": value}) for value in (inf, -inf))),
        LANES,
    ),
    Rule(
        "NaN in a key or value makes every row and gradient NaN that sees it",
        _nan_key,
        _both(
            (
                ("k", {"name": "k", "tokens": slice(1)}),
                ("v", {"name": "v", "tokens": slice(1)}),
                ("every k", {"name": "k", "tokens": slice(None)}),
            ),
            _ENDS,
        ),
        LANES,
    ),
    Rule(
        "a value that is masked from all reaches no output",
        _hidden_value,
        _with(_both(_KINDS, tuple((str(value), {"value": value}) for value in (1e30, nan))), backward=False),
    ),
    Rule(
        "a value that is masked from all reaches no gradient",
        _hidden_value,
        _both(_ENDS[2:], tuple((str(value), {"value": value}) for value in (nan, inf, -inf))),
    ),
    Rule(
        "a value outside of a window reaches neither output nor gradient",
        _hidden_value,
        _with(_CAUSAL, value=1e30, window=2),
        FAR,
    ),
    Rule("the last query alone gives the last row", _decode, (("", {}), *_KINDS, *_LOW)),
    Rule("a prefill in chunks gives the rows of the whole", _chunks, (("", {}), ("window", {"window": 5}))),
    Rule("padding that is masked might as well not be there", _padded, _KINDS),
    Rule(
        "nothing gives nothing, of the right shape",
        _empty,
        (("batch", {"what": "batch"}), ("queries", {"what": "queries"})),
    ),
)
