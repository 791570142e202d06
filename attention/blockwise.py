"""Attention tile by tile: softmax online, the backward pass by recomputation, memory linear in the tokens.

Over 300 lines: forward and backward pass share their tiling.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .registry import Capabilities, register
from .shapes import band, regroup
from .validation import check_counts_known

BLOCK = 256  # queries, and keys, of one tile


@register("blockwise", Capabilities(window=True, softcap=True, sinks=True))
def blockwise(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    causal: bool,
    scale: float | None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    block: int = BLOCK,
) -> Tensor:
    """``softmax(q k^T / sqrt(D) + mask) v`` without the score matrix; see ``Kernel.__call__`` for the shapes.

    The result does not depend on ``block`` except for rounding; tiles that ``causal`` or ``window`` hide are left out.
    Scores and sums are float32, for float64 inputs float64. NaN and inf in v do what they do in ``masked``.

    Raises:
        RuntimeError: a gradient is differentiated again.

    Source: online softmax, Milakov & Gimelshein 2018, algorithm 3; attention with it, Rabe & Staats 2021; the backward
    pass, Dao et al. 2022, algorithm 4.

    """
    check_counts_known("blockwise", q, k)
    if q.device.type != "meta" and torch.is_autocast_enabled(q.device.type) and q.dtype != torch.float64:
        lower = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(lower), k.to(lower), v.to(lower)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    tiling = _Tiling(q.shape[2], k.shape[2], causal, window, block, q.device)
    if mask is not None:
        mask = mask[(None,) * (4 - mask.dim())]
    if sinks is not None:
        sinks = sinks[None, :, None, None]
    out: Tensor = _apply(_Blockwise, q, k, v, mask, sinks, tiling, scale, softcap)[0]
    return out


@dataclass(frozen=True)
class _Tiling:
    """The tiles of a score matrix (Tq, Tk)."""

    n_queries: int
    n_keys: int
    causal: bool
    window: int | None
    block: int
    device: torch.device

    def rows(self) -> Iterator[slice]:
        return _cut(0, self.n_queries, self.block)

    def columns(self, rows: slice) -> Iterator[slice]:
        """Blocks of the keys that some query of the rows sees."""
        offset, first, end = self.n_keys - self.n_queries, 0, self.n_keys
        if self.window is not None:
            first = max(0, rows.start + offset - self.window + 1)
            end = min(end, rows.stop + offset + self.window - 1)
        return _cut(first, min(end, rows.stop + offset) if self.causal else end, self.block)

    def band(self, rows: slice, columns: slice) -> Tensor | None:
        """Which keys of the columns each query of the rows sees: bool, or None where it is every key."""
        return band(
            rows.stop - rows.start,
            columns.stop - columns.start,
            self.device,
            causal=self.causal,
            window=self.window,
            offset=rows.start + self.n_keys - self.n_queries - columns.start,
        )


def _cut(first: int, end: int, block: int) -> Iterator[slice]:
    return (slice(start, min(start + block, end)) for start in range(first, end, block))


def _tile(mask: Tensor, rows: slice, columns: slice) -> Tensor:
    """Return the part of a mask (.., .., Tq or 1, Tk or 1) that one tile needs, as a view."""
    every = slice(None)
    return mask[:, :, rows if mask.shape[2] > 1 else every, columns if mask.shape[3] > 1 else every]


@dataclass(frozen=True)
class _Problem:
    """The inputs of one call, and its score matrix tile by tile. ``wide`` is the dtype of sums."""

    q: Tensor  # (B, Hq, Tq, D)
    k: Tensor  # (B, Hkv, Tk, D)
    v: Tensor  # (B, Hkv, Tk, Dv)
    mask: Tensor | None  # (B or 1, Hq or 1, Tq or 1, Tk or 1)
    tiling: _Tiling
    scale: float
    softcap: float | None

    @property
    def wide(self) -> torch.dtype:
        return torch.promote_types(self.q.dtype, torch.float32)

    def split_values(self) -> tuple[Tensor, Tensor | None]:
        """Move NaN and inf from V to the scores, so that hiding a score hides them too.

        Returns V with zeros in their place, and (B, Hkv, 1, Tk) to add to scores: NaN for such keys, else zero.
        """
        if self.mask is None and not self.tiling.causal and self.tiling.window is None:
            return self.v, None
        return self.v.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), (self.v * 0.0).sum(dim=-1).unsqueeze(-2)

    def scores(self, q: Tensor, poison: Tensor | None, rows: slice, columns: slice) -> tuple[Tensor, Tensor | None]:
        """Score scaled queries (B, Hq, bq, D) with the keys of the columns: (B, Hq, bq, bk), -inf where hidden.

        The second result is the tanh of the cap, (B, Hkv, G * bq, bk); None where scores are not capped.
        """
        k = self.k[:, :, columns].to(self.wide)
        scores = regroup(q, k.shape[1]) @ k.transpose(-2, -1)  # (B, Hkv, G * bq, bk)
        tanh = None
        if self.softcap is not None:
            tanh = torch.tanh(scores / self.softcap)
            scores = self.softcap * tanh
        if poison is not None:
            scores += poison[..., columns]
        scores = regroup(scores, q.shape[1])
        if self.mask is not None:
            mask = _tile(self.mask, rows, columns)
            if mask.dtype != torch.bool:
                mask = mask.to(self.q.dtype)
                scores += mask
                mask = mask != -torch.inf
            scores = scores.masked_fill(~mask, -torch.inf)
        seen = self.tiling.band(rows, columns)
        return scores if seen is None else scores.masked_fill(~seen, -torch.inf), tanh


def _finite(highest: Tensor) -> Tensor:
    """Return what to subtract from scores before exp: the highest, or zero if all are hidden, as -inf - -inf is NaN."""
    return highest.masked_fill(highest == -torch.inf, 0.0)


def _unlowered(device: torch.device) -> AbstractContextManager[object]:
    """Turn autocast off: it has cast the inputs already, and must not cast the sums."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def _attend(  # noqa: PLR0917  # autograd passes them by position
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    sinks: Tensor | None,
    tiling: _Tiling,
    scale: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attend by online softmax: the output (B, Hq, Tq, Dv), and each row's shift and sum of weights (B, Hq, Tq, 1).

    sinks are (B or 1, Hq, 1, 1).
    """
    problem = _Problem(q, k, v, mask, tiling, scale, softcap)
    n_kv_heads, n_heads, wide = k.shape[1], q.shape[1], problem.wide
    values, poison = problem.split_values()
    out = q.new_empty(*q.shape[:3], v.shape[3])
    shifts, totals = (q.new_empty(*q.shape[:3], 1, dtype=wide) for _ in range(2))
    with _unlowered(q.device):
        for rows in tiling.rows():
            q_rows = q[:, :, rows].to(wide) * scale
            size = q_rows.shape[:3]
            highest = q_rows.new_full((*size, 1), -torch.inf)
            if sinks is not None:  # a sink is a score that the sum starts from
                highest = highest.maximum(sinks.to(wide))
            shift = _finite(highest)
            total, summed = (highest - shift).exp(), q_rows.new_zeros(*size, v.shape[3])
            for columns in tiling.columns(rows):
                scores, _ = problem.scores(q_rows, poison, rows, columns)  # (B, Hq, bq, bk)
                higher = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
                shift = _finite(higher)
                kept, terms = (highest - shift).exp(), (scores - shift).exp()
                weighed = regroup(terms, n_kv_heads) @ values[:, :, columns].to(wide)  # (B, Hkv, G * bq, Dv)
                total = total * kept + terms.sum(dim=-1, keepdim=True)
                summed = summed * kept + regroup(weighed, n_heads)
                highest = higher
            total = total.masked_fill(total == 0.0, 1.0)  # a row that sees no key: 0 / 1
            out[:, :, rows], shifts[:, :, rows], totals[:, :, rows] = summed / total, shift, total
    return out, shifts, totals


def _gradients(  # noqa: PLR0917  # by position, too
    d_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    sinks: Tensor | None,
    out: Tensor,
    shifts: Tensor,
    totals: Tensor,
    tiling: _Tiling,
    scale: float,
    softcap: float | None,
    mask_wanted: bool,
) -> tuple[Tensor | None, ...]:
    """Compute the gradients of q, k, v, the mask if wanted, and sinks; each row's statistics give its weights again."""
    problem = _Problem(q, k, v, mask, tiling, scale, softcap)
    n_kv_heads, n_heads, wide = k.shape[1], q.shape[1], problem.wide
    values, poison = problem.split_values()
    dq, dk, dv = torch.empty_like(q), torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
    d_mask = torch.zeros_like(mask, dtype=wide) if mask is not None and mask_wanted else None
    d_sinks = None if sinks is None else torch.zeros_like(sinks, dtype=wide)
    with _unlowered(q.device):
        for rows in tiling.rows():
            q_rows, do_rows = q[:, :, rows].to(wide) * scale, d_out[:, :, rows].to(wide)
            mean = (do_rows * out[:, :, rows]).sum(dim=-1, keepdim=True)  # D in Dao et al.
            q_rows, do_rows = regroup(q_rows, n_kv_heads), regroup(do_rows, n_kv_heads)  # (B, Hkv, G * bq, ..)
            dq_rows = torch.zeros_like(q_rows)
            every = list(tiling.columns(rows))
            whole = torch.zeros_like(mean)  # the same mean, without the rounding of ``out``
            for columns in every:
                scores, tanh = problem.scores(regroup(q_rows, n_heads), poison, rows, columns)  # (B, Hq, bq, bk)
                weights = (scores - shifts[:, :, rows]).exp() / totals[:, :, rows]
                dv[:, :, columns] += regroup(weights, n_kv_heads).transpose(-2, -1) @ do_rows
                d_weights = do_rows @ values[:, :, columns].to(wide).transpose(-2, -1)  # (B, Hkv, G * bq, bk)
                d_weights = regroup(d_weights, n_heads)
                if len(every) == 1 or sinks is not None:
                    whole = whole + (weights * d_weights).sum(dim=-1, keepdim=True)
                if len(every) == 1:  # more exact, above all where one weight is nearly 1
                    mean = whole
                d_scores = weights * (d_weights - mean)
                if d_mask is not None:
                    tile = _tile(d_mask, rows, columns)
                    tile += d_scores.sum_to_size(tile.shape)
                d_scores = regroup(d_scores, n_kv_heads)
                if tanh is not None:
                    d_scores = d_scores * (1 - tanh**2)
                dq_rows += d_scores @ k[:, :, columns].to(wide)
                dk[:, :, columns] += d_scores.transpose(-2, -1) @ q_rows
            dq[:, :, rows] = regroup(dq_rows, n_heads) * scale
            if sinks is not None and d_sinks is not None:  # a sink has a weight, and a value of zero
                kept = (sinks.to(wide) - shifts[:, :, rows]).exp() / totals[:, :, rows]
                d_sinks -= (kept * whole).sum_to_size(d_sinks.shape)
    if mask is not None and d_mask is not None:
        d_mask = d_mask.to(mask.dtype)
    if sinks is not None and d_sinks is not None:
        d_sinks = d_sinks.to(sinks.dtype)
    return dq, dk.to(k.dtype), dv.to(v.dtype), d_mask, d_sinks


class _Blockwise(torch.autograd.Function):
    """``_attend`` with its gradients."""

    compute = staticmethod(_attend)

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        output = _attend(*inputs)
        _Blockwise.keep(ctx, inputs, output)
        return output

    @staticmethod
    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.tiling, ctx.scale, ctx.softcap = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[3]  # the mask's
        gradients = _apply(_Backward, d_out, *ctx.saved_tensors, ctx.tiling, ctx.scale, ctx.softcap, wanted)
        return *gradients, None, None, None


class _Backward(torch.autograd.Function):
    """``_gradients`` as an autograd function, so that differentiating it again is an error and not a wrong result."""

    compute = staticmethod(_gradients)

    @staticmethod
    def forward(_: Any, *inputs: Any) -> Any:
        return _gradients(*inputs)

    @staticmethod
    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        pass

    @staticmethod
    def backward(_: Any, *__: Tensor) -> Any:
        raise RuntimeError("blockwise attention has no second derivative: differentiate twice through 'masked'")


def _apply(function: Any, *inputs: Any) -> Any:
    """Apply an autograd function in the form that torch.func's transforms need, but only there: it is slower."""
    return (_transformable(function) if torch._C._are_functorch_transforms_active() else function).apply(*inputs)  # noqa: SLF001  # there is no public function for this


@cache
def _transformable(function: Any) -> Any:
    """Make the form of an autograd function that torch.func can transform: for vmap, its items join the batch."""

    class Transformable(function):  # type: ignore[misc]  # the base is what was asked for
        forward, setup_context = staticmethod(function.compute), staticmethod(function.keep)

        @staticmethod
        def jvp(_: Any, *__: Tensor) -> Any:
            raise NotImplementedError("blockwise does not support forward-mode derivatives: take them through 'masked'")

        @staticmethod
        def vmap(info: Any, dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
            items = info.batch_size
            batch = next(n for i, n in enumerate(inputs[0].shape) if i != dims[0])

            def fold(x: Any, dim: int | None) -> Any:
                if not isinstance(x, Tensor):
                    return x
                x = x.expand(items, *x.shape) if dim is None else x.movedim(dim, 0)  # (N, B, ..)
                return x.expand(-1, batch, *x.shape[2:]).flatten(0, 1)  # a mask may be one for the batch

            folded = _apply(function, *map(fold, inputs, dims))
            apart = tuple(None if x is None else x.unflatten(0, (items, batch)) for x in folded)
            return apart, tuple(None if x is None else 0 for x in apart)

    return Transformable
