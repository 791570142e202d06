"""Adapts the signatures of flash_attn and of transformers' ``AttentionInterface`` to a kernel's."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..observing.states import watching

OURS = ("mask", "causal", "scale")
FLASH = ("softmax_scale", "causal")
INTERFACE = ("attention_mask", "scaling", "dropout")
ACCEPTED = (
    f"(q, k, v, *, {', '.join(OURS)}) as attention.Kernel's, (q, k, v, {', '.join(FLASH)}) as flash_attn's, or "
    f"(module, query, key, value, {', '.join(INTERFACE)}) as in transformers' AttentionInterface"
)

# For each of a kernel's arguments: its names in other signatures, the condition that it was given, and its name in a
# message.
_ELSEWHERE = {
    "mask": (("mask", "attn_mask", "attention_mask", "attn_bias", "bias"), "mask is not None", "a mask"),
    "causal": (("causal", "is_causal"), "causal", "causal attention"),
    "scale": (("scale", "sm_scale", "softmax_scale", "scaling"), "scale is not None", "a scale"),
}


Layout = Callable[..., Tensor]  # a function of another signature, called with the arguments of ``attention.Kernel``


def takes(signature: inspect.Signature, leading: int, options: tuple[str, ...], *, named: tuple[str, ...]) -> bool:
    """Whether a function can be called with so many positional values and the options by name.

    It must declare those in ``named``: taking them as ``**kwargs`` is not enough.
    """
    first = list(signature.parameters.values())[:leading]
    if any(p.default is not p.empty for p in first) or not set(named) <= set(signature.parameters):
        return False
    try:
        signature.bind(*range(leading), **dict.fromkeys(options))
    except TypeError:
        return False
    return True


@dataclass(frozen=True)
class FlashLayout:
    """A function of flash_attn's signature: tokens before heads, no mask, the scale by another name.

    flash_attn_func of github.com/Dao-AILab/flash-attention takes q (B, Tq, Hq, D), k and v (B, Tk, Hkv, D), is causal
    bottom-right since version 2.1, and may return the log-sum-exp too since version 3. Since 2.3 it has
    ``window_size=(left, right)``, keys beside a query's own, and since 2.6 ``softcap``. The transposes are views.
    """

    function: Callable[..., Any]

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None, **options: Any
    ) -> Tensor:
        """Attend; arguments and shapes as ``attention.Kernel.__call__``."""
        assert mask is None  # by the capabilities
        window = options.pop("window", None)
        if window is not None:
            options["window_size"] = (window - 1, 0 if causal else window - 1)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return _first(self.function(q, k, v, softmax_scale=scale, causal=causal, **options)).transpose(1, 2)


@dataclass(frozen=True)
class InterfaceLayout:
    """A function of transformers' ``AttentionInterface``, called as models call it.

    It takes a module, q (B, Hq, Tq, D), k and v (B, Hkv, Tk, D) and a mask of four dimensions, and returns the output
    (B, Tq, Hq, D) and weights. The module says ``is_causal`` and ``num_key_value_groups``. The function ignores
    ``is_causal`` where there is a mask, so the mask then hides later keys too. The mask does that also where queries
    and keys differ in number, and for a function that always ignores ``is_causal`` (transformers' eager ones).
    ``masks`` are the kinds of masks that the function uses.
    """

    function: Callable[..., Any]
    masks: frozenset[str] = frozenset({"bool", "float"})
    uses_causal: bool = True
    takes_causal: bool = False  # passes is_causal as an argument
    modules: dict[tuple[bool, int, int], nn.Module] = field(default_factory=dict)
    causal_masks: dict[Any, Tensor] = field(default_factory=dict)  # a model, too, makes it once for all layers

    @classmethod
    def found_by_trying(
        cls, function: Callable[..., Any], device: str, dtype: torch.dtype, size: int
    ) -> "InterfaceLayout":
        """Try which arguments the function uses, on two tokens of which the first must not see the second."""
        takes_causal = "is_causal" in inspect.signature(function).parameters
        plain = cls(function, takes_causal=takes_causal)
        zeros = torch.zeros(1, 1, 2, size, dtype=dtype, device=device)
        values = torch.arange(2, dtype=dtype, device=device)[None, None, :, None].expand_as(zeros)
        seen = torch.ones(2, 2, dtype=torch.bool, device=device).tril()
        hidden = {"bool": seen, "float": torch.zeros(2, 2, dtype=dtype, device=device).masked_fill(~seen, -torch.inf)}

        def uses(mask: Tensor | None, *, causal: bool) -> bool:
            try:
                with torch.no_grad():
                    out = plain(zeros, zeros, values, mask=mask, causal=causal, scale=None)
            except Exception:  # noqa: BLE001  # an exception means that it does not
                return False
            return bool(torch.allclose(out[0, 0, :, 0].float().cpu(), torch.tensor([0.0, 0.5]), atol=1e-2))

        masks = frozenset(kind for kind, mask in hidden.items() if uses(mask, causal=False))
        return cls(function, masks, uses(None, causal=True), takes_causal)

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None, **options: Any
    ) -> Tensor:
        """Attend; arguments and shapes as ``attention.Kernel.__call__``.

        Raises:
            NotImplementedError: it would need a mask, and the function uses none.

        """
        batch, heads, queries, size = q.shape
        keys = k.shape[2]
        if causal and (mask is not None or queries != keys or not self.uses_causal):
            if not self.masks:
                raise NotImplementedError(f"causal attention of {queries} queries to {keys} keys, for it uses no mask")
            mask, causal = self._with_causal(mask, queries, keys, q), False
        if mask is not None:
            mask = mask[(None,) * (4 - mask.dim())]
            mask = mask.expand(*mask.shape[:2], queries, keys)
        more = options | ({"is_causal": causal} if self.takes_causal else {})
        module = self._module(causal=causal, groups=heads // k.shape[1] if batch and heads else 1, size=size)
        scaling = size**-0.5 if scale is None else scale
        out = _first(self.function(module, q, k, v, mask, scaling=scaling, dropout=0.0, **more))
        return out.transpose(1, 2)

    def _module(self, *, causal: bool, groups: int, size: int) -> nn.Module:
        key = causal, groups, size
        if key not in self.modules:
            module: Any = nn.Module().eval()
            module.is_causal, module.num_key_value_groups = causal, groups
            module.head_dim, module.scaling, module.layer_idx = size, size**-0.5, 0
            self.modules[key] = module
        return self.modules[key]

    def _with_causal(self, mask: Tensor | None, queries: int, keys: int, q: Tensor) -> Tensor:
        kind = "bool" if "bool" in self.masks else "float"
        key = queries, keys, kind, q.dtype, q.device
        if key not in self.causal_masks:
            seen = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(keys - queries)
            nothing = torch.zeros(queries, keys, dtype=q.dtype, device=q.device)
            self.causal_masks[key] = seen if kind == "bool" else nothing.masked_fill(~seen, -torch.inf)
        both = self.causal_masks[key]
        if mask is None:
            return both
        if mask.dtype != torch.bool:
            return mask.masked_fill(~both, -torch.inf) if kind == "bool" else mask + both
        return mask & both if kind == "bool" else both.masked_fill(~mask, -torch.inf)


def _first(out: Any) -> Tensor:
    """Return the output alone, where a function returns more."""
    found: Tensor = out[0] if isinstance(out, tuple) else out
    return found


@dataclass(frozen=True, eq=False)  # so that a kernel of it is hashable
class Undeclared:
    """A kernel without declared capabilities: each kind of request is tried once, on one token."""

    layout: Layout
    refusals: dict[tuple[str, torch.dtype, int, bool], str | None] = field(default_factory=dict)  # by request

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float | None, **options: Any
    ) -> Tensor:
        """Attend; arguments and shapes as ``attention.Kernel.__call__``.

        Raises:
            NotImplementedError: the function refuses the simplest request of this kind.

        """
        backward = torch.is_grad_enabled() and q.requires_grad
        refusal = self.refusal(q.device.type, q.dtype, q.shape[-1], backward=backward)
        if refusal is not None:
            raise NotImplementedError(refusal)
        return self.layout(q, k, v, mask=mask, causal=causal, scale=scale, **options)

    def refusal(self, device: str, dtype: torch.dtype, head_size: int, *, backward: bool = False) -> str | None:
        """Say that the function refuses the simplest request of a kind, in its own words; None if it serves it.

        A function that refuses one token does not support the kind; one that serves it and raises later is broken.
        """
        words = self.words(device, dtype, head_size, backward=backward)
        what = f"{'a backward pass in ' if backward else ''}{dtype} with head size {head_size} on {device}"
        return None if words is None else f"it refuses {what} ({words})"

    def words(self, device: str, dtype: torch.dtype, head_size: int, *, backward: bool = False) -> str | None:
        """Return what the function raises if it refuses the simplest request of a kind; None if it serves it."""
        kind = (device, dtype, head_size, backward)
        if kind not in self.refusals:
            token = torch.zeros(1, 1, 1, head_size, dtype=dtype, device=device, requires_grad=backward)
            self.refusals[kind] = None
            try:
                with watching(), torch.set_grad_enabled(backward):  # its cases show what it leaves changed
                    out = self.layout(token, token, token, mask=None, causal=False, scale=None)
                    if backward:
                        torch.autograd.grad(out.sum(), token)
            except Exception as error:  # noqa: BLE001  # any exception is its answer
                self.refusals[kind] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return self.refusals[kind]


def wrapper(module: str, attribute: str, parameters: Mapping[str, inspect.Parameter] | None, made: str = "") -> str:
    """Write a function of our signature that calls another; where names do not tell what to pass, it is left open.

    ``parameters`` are those of the other, None if they cannot be read; one that takes any name is given ours. ``made``
    names the class of which an instance has to be made first.
    """
    known = {} if parameters is None else dict(parameters)
    needed = [
        name for name, p in known.items() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    of_any_name = parameters is None or any(p.kind is p.VAR_KEYWORD for p in known.values())
    found = {
        ours: next((name for name in names if name in known), ours if of_any_name else None)
        for ours, (names, *_) in _ELSEWHERE.items()
    }
    given = ["q", "k", "v"]
    if first := needed[:3]:
        is_open = len(first) < 3 or not set(first).isdisjoint(found.values())
        by_name = [known[name].kind is inspect.Parameter.KEYWORD_ONLY for name in first]
        named = [f"{name}={ours}" if by else ours for name, ours, by in zip(first, given, by_name, strict=False)]
        given = [] if is_open else named
    given += [f"{name}=..." for name in needed[len(given) :] if name not in found.values()]
    given += [f"{name}={ours}" for ours, name in found.items() if name is not None]
    lacking = [_ELSEWHERE[ours][1:] for ours, name in found.items() if name is None]
    refuse = [
        f"    if {' or '.join(condition for condition, _ in lacking)}:",
        f'        raise NotImplementedError("{" or ".join(words for _, words in lacking)}")',
    ]
    name, last = attribute.partition(".")[0], attribute.rpartition(".")[2]
    called = f"made{attribute.removeprefix(made)}" if made else f"theirs{attribute.removeprefix(name)}"
    return "\n".join(
        [
            f"from {module} import {name} as theirs",  # a package may have a function of its module's name
            *([f"made = theirs{made.removeprefix(name)}(...)"] if made else []),
            f"def {last}(q, k, v, *, mask, causal, scale):  # (batch, heads, tokens, size)",
            *(refuse if lacking else []),
            f"    return {called}({', '.join(given)})",
        ]
    )
