"""Realistic wrong edits of the kernels: the numerics gate, alone and in its smallest tier, catches every one.

Over 300 lines: one table of wrong edits.
"""

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import flex_attention

import attention
from attention import KERNELS, compiling
from bench.observing import drift
from bench.observing.tolerance import Results
from bench.suite.cases import Case
from bench.suite.matrix import COMPILING, matrix
from bench.suite.oracle import oracle, yardstick
from bench.suite.side import Side
from bench.suite.workload import bind, build, parameter_sizes

PACKAGE = Path(attention.__file__ or "").parent
HEAD = Side.of("head", attention)


def contiguous(name: str) -> str:
    """Write an expression that takes the memory of a tensor for that of a contiguous one."""
    return f"{name}.as_strided({name}.shape, {name}.new_empty({name}.shape).stride())"


# file -> what is wrong -> (text as it is, text as the edit leaves it)
MUTATIONS: dict[str, dict[str, tuple[str, str]]] = {
    "manual.py": {
        "scale off by a little": ("** -0.5", "** -0.501"),
        "scale forgotten": ("regroup(q * scale, n_kv_heads)", "regroup(q, n_kv_heads)"),
        "scale ignored": ("if scale is None:", "if True:"),
        "scale from the number of queries": ("q.shape[-1] ** -0.5", "q.shape[-2] ** -0.5"),
        "softmax over the queries": ("softmax(dim=-1)", "softmax(dim=-2)"),
        "batch dimension swapped in the transpose": ("@ k.transpose(-2, -1)", "@ k.flip(1).transpose(-2, -1)"),
        "scores in half precision": (
            "regroup(q * scale, n_kv_heads) @ k.transpose(-2, -1)",
            "(regroup(q * scale, n_kv_heads).half() @ k.half().transpose(-2, -1)).to(q.dtype)",
        ),
        "weights rounded to half precision": ("weights @ v", "weights.half().to(v.dtype) @ v"),
        "gradient of v cut": ("weights @ v", "weights @ v.detach() + 0 * v.sum()"),
        "gradient of the weights cut": ("weights @ v", "weights.detach() @ v + 0 * weights.sum()"),
        "keys for values": ("weights @ v", "weights @ (k + 0 * v)"),
        "scaled in place": ("regroup(q * scale, n_kv_heads)", "regroup(q.detach().mul_(scale) + 0 * q, n_kv_heads)"),
        "result a little too large": ("regroup(weights @ v, n_heads)", "regroup(weights @ v, n_heads) * 1.0001"),
        "result in double precision": ("regroup(weights @ v, n_heads)", "regroup(weights @ v, n_heads).double()"),
        "softmax without its maximum": (
            "scores.softmax(dim=-1)",
            "scores.exp() / scores.exp().sum(dim=-1, keepdim=True)",
        ),
        "softmax of clamped scores": ("scores.softmax(dim=-1)", "scores.clamp(max=80.0).softmax(dim=-1)"),
        "one maximum for all rows": (
            "scores.softmax(dim=-1)",
            "((s := (scores - scores.detach().amax()).exp()) / s.sum(dim=-1, keepdim=True))",
        ),
        "scores scaled after the product": (
            "regroup(q * scale, n_kv_heads) @ k.transpose(-2, -1)",
            "regroup(q, n_kv_heads) @ k.transpose(-2, -1) * scale",
        ),
        "keys read as if they were contiguous": ("@ k.transpose(-2, -1)", f"@ {contiguous('k')}.transpose(-2, -1)"),
        "values read as if they were contiguous": ("weights @ v", f"weights @ {contiguous('v')}"),
        "queries flattened by a view": ("regroup(q * scale,", "regroup(q.view(-1).view(q.shape) * scale,"),
    },
    "shapes.py": {
        "band hides the diagonal": ("seen.tril(newest)", "seen.tril(newest - 1)"),
        "band leaks one key": ("seen.tril(newest)", "seen.tril(newest + 1)"),
        "window one key too wide": ("offset - window + 1", "offset - window"),
        "window one key too narrow": ("offset - window + 1", "offset - window + 2"),
        "window open to the future": ("offset + window - 1  #", "offset + n_keys  #"),
        "causal mask hides the diagonal": (".tril(n_keys - n_queries)", ".tril(n_keys - n_queries - 1)"),
        "causal mask leaks one key": (".tril(n_keys - n_queries)", ".tril(n_keys - n_queries + 1)"),
        "causal mask aligned top-left": (".tril(n_keys - n_queries)", ".tril()"),
        "groups folded by a view": ("x.reshape(batch, n_heads", "x.view(batch, n_heads"),
        "band of two queries left out": ("newest >= n_keys - 1", "newest >= n_keys - 2"),
        "groups tiled instead of interleaved": (
            "x.reshape(batch, n_heads, heads * tokens // n_heads, size)",
            "x.reshape(batch, heads // min(heads, n_heads), min(heads, n_heads), -1, size).transpose(1, 2)"
            ".reshape(batch, n_heads, heads * tokens // n_heads, size)",
        ),
    },
    "masked.py": {
        "causal ignored": (
            ".masked_fill(~visible, -torch.inf)",
            ".masked_fill(~visible & (mask is not None), -torch.inf)",
        ),
        "bool mask inverted": ("attended = mask\n", "attended = ~mask\n"),
        "bool mask of the first head": (
            "attended = mask\n",
            "attended = mask[:, :1] if mask.dim() == 4 else mask\n",
        ),
        "bool mask of the first item": ("attended = mask\n", "attended = mask[:1] if mask.dim() == 4 else mask\n"),
        "bias of the first item": ("(scores + mask.to", "(scores + (mask[:1] if mask.dim() == 4 else mask).to"),
        "bias of the first head": ("(scores + mask.to", "(scores + (mask[:, :1] if mask.dim() == 4 else mask).to"),
        "causal forgotten where a mask hides nothing": (
            "    if mask is None and visible is None:",
            "    if mask is not None and mask.dtype == torch.bool and bool(mask.all()):\n"
            "        mask = visible = None\n"
            "    if mask is None and visible is None:",
        ),
        "padding taken for as many keys of each item": (
            "attended = mask\n",
            "attended = torch.arange(mask.shape[-1]) < mask.flatten(1).sum(1).max() if mask.dim() == 4"
            " and mask.shape[1:3] == (1, 1) else mask\n",
        ),
        "mask of one dimension read along the queries": (
            "attended = mask\n",
            "attended = mask[: q.shape[2], None] if mask.dim() == 1 else mask\n",
        ),
        "lowest value hides a key": (
            "attended = mask.to(scores.dtype) != -torch.inf",
            "attended = mask.to(scores.dtype) > torch.finfo(scores.dtype).min",
        ),
        "masked keys leak": ("masked_fill(~visible, -torch.inf)", "masked_fill(~visible, -5.0)"),
        "float mask ignored": ("scores + mask.to(scores.dtype)", "scores"),
        "float mask subtracted": ("(scores + mask.to", "(scores - mask.to"),
        "float mask scaled with the scores": ("(scores + mask.to", "(scores + scale * mask.to"),
        "gradient of the mask cut": ("(scores + mask.to", "(scores + 0 * mask.nan_to_num() + mask.detach().to"),
        "minus infinity in a mask leaks": ("attended = mask.to(scores.dtype) != -torch.inf", "attended = mask == mask"),
        "mask in place of causal": ("attended if visible is None else visible & attended", "attended"),
        "scale ignored": ("if scale is None:", "if True:"),
        "blind rows not zero": ("n_heads).masked_fill(blind, 0.0)  #", "n_heads)  #"),
        "blind rows NaN": (
            "masked_fill(~visible, -torch.inf).masked_fill(blind, 0.0)",
            "masked_fill(~visible, -torch.inf)",
        ),
        "cap forgotten": (", softcap)  #", ", None)  #"),
        "cap before the scale": (
            "cap(regroup(q * scale, n_kv_heads) @ k.transpose(-2, -1), softcap)",
            "cap(regroup(q, n_kv_heads) @ k.transpose(-2, -1), softcap) * scale",
        ),
        "cap after the bias": (
            "(scores + mask.to(scores.dtype)).clamp",
            "cap(scores + mask.to(scores.dtype), softcap).clamp",
        ),
        "sinks forgotten where keys are hidden": (
            "weights = softmax(scores, sinks)",
            "weights = softmax(scores, None)",
        ),
        "sinks forgotten where no key is hidden": (
            "softmax(regroup(scores, n_heads), sinks)",
            "softmax(regroup(scores, n_heads), None)",
        ),
        "gradient of the scores cut": ("= scores.masked_fill(~visible", "= scores.detach().masked_fill(~visible"),
    },
    "scoring.py": {
        "softmax over the queries": ("scores.softmax(dim=-1)", "scores.softmax(dim=-2)"),
        "cap that clips": ("torch.tanh(scores / softcap)", "(scores / softcap).clamp(-1.0, 1.0)"),
        "cap without its size": ("torch.tanh(scores / softcap) * softcap", "torch.tanh(scores / softcap)"),
        "gradient of the cap taken for one": (
            "torch.tanh(scores / softcap) * softcap",
            "scores + (torch.tanh(scores / softcap) * softcap - scores).detach()",
        ),
        "sink of the first head": ("sinks.to(scores.dtype)[:, None", "sinks.to(scores.dtype)[:1, None"),
        "sinks as zeros": ("sinks.to(scores.dtype)", "(0 * sinks).to(scores.dtype)"),
        "gradient of the sinks cut": ("sinks.to(scores.dtype)", "(sinks.detach() + 0 * sinks).to(scores.dtype)"),
        "sink for the last key": ("[..., :-1]", "[..., 1:]"),
        "weights made to sum to one without the sink": (
            "torch.cat([scores, column], dim=-1).softmax(dim=-1)[..., :-1]",
            "scores.softmax(dim=-1) + 0 * column",
        ),
    },
    "blockwise.py": {
        "cap forgotten": ("scores = self.softcap * tanh", "pass"),
        "cap without its size": ("scores = self.softcap * tanh", "scores = tanh"),
        "slope of the cap forgotten": ("d_scores = d_scores * (1 - tanh**2)", "d_scores = d_scores"),
        "slope of the cap of other scores": ("1 - tanh**2", "1 - scores**2"),
        "sinks forgotten": ("if sinks is not None:  # a sink is", "if False:  # a sink is"),
        "sinks in the maximum alone": ("(highest - shift).exp(), q_rows", "torch.zeros_like(shift), q_rows"),
        "sink of the first head": ("maximum(sinks.to(wide))", "maximum(sinks.to(wide)[:, :1])"),
        "gradient of the sinks forgotten": ("(kept * whole)", "(0 * kept * whole)"),
        "gradient of the sinks of the other sign": ("d_sinks -= ", "d_sinks += "),
        "gradient of the sinks of the first item": ("(kept * whole).sum_to", "(kept * whole)[:1].sum_to"),
        "sum not rescaled to the new maximum": ("total = total * kept", "total = total"),
        "output not rescaled to the new maximum": ("summed = summed * kept", "summed = summed"),
        "running maximum not updated": ("                highest = higher\n", ""),
        "no maximum": (
            "higher = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))",
            "higher = torch.zeros_like(highest)",
        ),
        "running maximum of zero at first": ("new_full((*size, 1), -torch.inf)", "new_full((*size, 1), 0.0)"),
        "maximum of the first row": (
            "scores.amax(dim=-1, keepdim=True)",
            "scores.amax(dim=-1, keepdim=True)[:, :, :1]",
        ),
        "upstream gradient read as if it were contiguous": (
            "d_out[:, :, rows].to(wide)",
            f"{contiguous('d_out')}[:, :, rows].to(wide)",
        ),
        "upstream gradient flattened by a view": (
            "d_out[:, :, rows].to(wide)",
            "d_out.view(-1).view(d_out.shape)[:, :, rows].to(wide)",
        ),
        "values read as if they were contiguous": ("self.v.nan_to_num(", f"{contiguous('self.v')}.nan_to_num("),
        "mask of the first item": ("    return mask[:, :, rows if", "    return mask[:1, :, rows if"),
        "mask of the first head": ("    return mask[:, :, rows if", "    return mask[:, :1, rows if"),
        "mask of one key cut into tiles": ("columns if mask.shape[3] > 1 else every", "columns"),
        "rescaled the wrong way": ("(highest - shift).exp(), (scores", "(shift - highest).exp(), (scores"),
        "maximum of a hidden block subtracted": ("highest.masked_fill(highest == -torch.inf, 0.0)", "highest"),
        "last partial block dropped": (
            "range(first, end, block)",
            "range(first, max(end - block + 1, first + 1), block)",
        ),
        "last key of a block dropped": (
            "slice(start, min(start + block, end))",
            "slice(start, min(start + block, end) - (start > 0))",
        ),
        "one block too many skipped": ("min(end, rows.stop + offset) if", "min(end, rows.start + offset) if"),
        "tiles aligned top-left": (
            "offset=rows.start + self.n_keys - self.n_queries - columns.start",
            "offset=rows.start - columns.start",
        ),
        "backward without the mean": ("weights * (d_weights - mean)", "weights * d_weights"),
        "mean of the gradient alone": ("(do_rows * out[:, :, rows]).sum", "do_rows.sum"),
        "weights of the backward pass not normalised": (
            "rows]).exp() / totals[:, :, rows]\n                dv",
            "rows]).exp()\n                dv",
        ),
        "gradient of the queries not scaled": ("regroup(dq_rows, n_heads) * scale", "regroup(dq_rows, n_heads)"),
        "gradient of the keys scaled twice": (
            "d_scores.transpose(-2, -1) @ q_rows",
            "d_scores.transpose(-2, -1) @ q_rows * scale",
        ),
        "gradient of the last tile alone": ("dv[:, :, columns] += ", "dv[:, :, columns] = "),
        "scores in half precision": (
            "k = self.k[:, :, columns].to(self.wide)",
            "q, k = q.half(), self.k[:, :, columns].half()",
        ),
        "scale ignored": (
            "scale = q.shape[-1] ** -0.5 if scale is None else float(scale)",
            "scale = q.shape[-1] ** -0.5",
        ),
        "gradient of the mask from the last tile alone": (
            "tile += d_scores.sum_to_size(tile.shape)",
            "tile.copy_(d_scores.sum_to_size(tile.shape))",
        ),
        "gradient of the mask not summed over the queries": (
            "tile += d_scores.sum_to_size(tile.shape)",
            "tile += d_scores[:, :, :1].sum_to_size(tile.shape)",
        ),
        "mask of the first tile everywhere": (
            "rows if mask.shape[2] > 1 else every",
            "slice(0, rows.stop - rows.start) if mask.shape[2] > 1 else every",
        ),
    },
    "sliding_window.py": {
        "cap and sinks forgotten": ("        **scoring,\n", ""),
        "window one key too wide": ("causal=causal, window=window, offset", "causal=causal, window=window + 1, offset"),
        "window one key too narrow": (
            "causal=causal, window=window, offset",
            "causal=causal, window=max(1, window - 1), offset",
        ),
        "blocks shifted by a key": ("first = n_keys - n_queries - (window - 1)", "first = n_keys - n_queries - window"),
        "future leaks": ("causal=causal, window=window, offset", "causal=False, window=window, offset"),
        "items taken for one": ("x.reshape(batch * n_blocks,", "x.reshape(n_blocks,"),
        "blocks of the first item hidden like": ("seen.repeat(batch, 1, 1, 1)", "seen.repeat_interleave(batch, 0)"),
        "two queries taken for one": ("causal or n_queries == 1", "causal or n_queries <= 2"),
        "keys read as if they were contiguous": ("        gather(k),", f"        gather({contiguous('k')}),"),
        "padding seen": ("((position >= 0) & (position < n_keys))", "(position >= -n_keys)"),
        "gradient of v cut": ("        gather(v),", "        gather(v.detach()) + 0 * v.sum(),"),
        "scale forgotten": ("scale=scale,", "scale=None if scale else 1.0,"),
        "aligned top-left": ("first = n_keys - n_queries - (window - 1)", "first = -(window - 1)"),
        "blocks of two items mixed": (
            "x.unfold(2, span, block).permute(0, 2, 1, 4, 3)",
            "x.unfold(2, span, block).flip(2).permute(0, 2, 1, 4, 3)",
        ),
    },
    "sdpa.py": {
        "causal aligned top-left": ("mask is None and n_queries == n_keys", "mask is None"),
        "causal dropped": ("is_causal=causal", "is_causal=False"),
        "bool mask inverted": ("mask = torch.atleast_2d(mask)", "mask = torch.atleast_2d(mask); mask = ~mask"),
        "mask dropped": ("attn_mask=mask", "attn_mask=None"),
        "mask of the first head": (
            "attn_mask=mask",
            "attn_mask=mask[:, :1] if mask is not None and mask.dim() == 4 else mask",
        ),
        "mask of the first item": (
            "attn_mask=mask",
            "attn_mask=mask[:1] if mask is not None and mask.dim() == 4 else mask",
        ),
        "causal forgotten where a mask hides nothing": (
            "    if mask is not None:\n        mask = torch.atleast_2d(mask)",
            "    if mask is not None and mask.dtype == torch.bool and bool(mask.all()):\n        return None, False\n"
            "    if mask is not None:\n        mask = torch.atleast_2d(mask)",
        ),
        "causal forgotten where there are two queries": ("n_queries < 2)", "n_queries < 3)"),
        "few keys leak one": ("triu(n_keys - n_queries + 1)", "triu(n_keys - n_queries + 2)"),
        "values read as if they were contiguous": (
            "        q, k, v, attn_mask",
            f"        q, k, {contiguous('v')}, attn_mask",
        ),
        "gradient of lowered rows left to PyTorch": ("bool(((highest < FAR)", "bool(((highest < -torch.inf)"),
        "scale of one": ("is_causal=causal, scale=scale", "is_causal=causal, scale=1.0"),
        "scale ignored": ("is_causal=causal, scale=scale", "is_causal=causal"),
        "values padded to the head size left so": ("return out if size == v_size else out[..., :v_size]", "return out"),
        "scale of the padded head size": ("scale = size**-0.5 if scale is None else scale", "pass"),
        "scale ignored where values are smaller": (
            "scale = size**-0.5 if scale is None else scale",
            "scale = size**-0.5",
        ),
        "scale of zero left to PyTorch": ("q, scale = q * scale, 1.0", "pass"),
        "bool mask in place of causal": ("return mask & triangle, False", "return mask, False"),
        "float mask in place of causal": ("mask.masked_fill(~triangle, -torch.inf), False", "mask, False"),
        "groups tiled instead of interleaved": (
            "    out = (by or F.scaled",
            "    k, v = (t.repeat(1, q.shape[1] // t.shape[1], 1, 1) for t in (k, v))\n    out = (by or F.scaled",
        ),
        "keys and values swapped": ("        q, k, v, attn_mask", "        q, v, k, attn_mask"),
        "key strides reinterpreted": (
            "        q, k, v, attn_mask",
            "        q, k.transpose(1, 2).reshape(k.shape), v, attn_mask",
        ),
        "dropout left on": ("is_causal=causal", "is_causal=causal, dropout_p=0.1"),
        "gradient of k cut": ("        q, k, v, attn_mask", "        q, k.detach() + 0 * k, v, attn_mask"),
    },
    "decode.py": {
        "cache not grown": ("            cache.append(k[:, :, token], v[:, :, token])\n", ""),
        "size of the values ignored": (", value_size=value_size, dtype", ", dtype"),
        "half of the keys where all are seen": (" if causal else n_keys", ""),
        "values of the cache read as if they were contiguous": (
            "(first, cache.keys, cache.values, mask",
            f"(first, cache.keys, {contiguous('cache.values')}, mask",
        ),
        "first half sees a token of the future": ("n_queries + n_first if causal", "n_queries + n_first + 1 if causal"),
    },
    "multihead.py": {
        "queries and keys swapped": ("q, k, v = qkv.split", "k, q, v = qkv.split"),
        "heads merged without the transpose": ("out.transpose(1, 2).reshape(batch", "out.reshape(batch"),
        "tokens taken for heads": (
            "qkv.view(batch, tokens, n_heads + 2 * n_kv_heads, head_size).transpose(1, 2)",
            "qkv.view(batch, n_heads + 2 * n_kv_heads, tokens, head_size)",
        ),
        "input bias forgotten": (
            "F.linear(x, weight, self.in_proj_bias)",
            "F.linear(x, weight)",
        ),
        "output bias forgotten": ("self.out_proj(out)", "F.linear(out, self.out_proj.weight)"),
        "causal not passed on": (" kernel(q, k, v, mask=mask, causal=causal)", " kernel(q, k, v, mask=mask)"),
        "groups tiled in the loop": ("self.n_heads + i // group,", "self.n_heads + i % self.n_kv_heads,"),
        "every head takes the first mask": ("mask[:, i : i + 1]", "mask[:1, :1]"),
        "every head takes the first one's mask": ("mask[:, i : i + 1]", "mask[:, :1]"),
        "every item takes the first one's mask": ("mask[:, i : i + 1]", "mask[:1, i : i + 1]"),
        "tokens read as if they were contiguous": (
            "F.linear(x, weight, self.in_proj_bias)",
            f"F.linear({contiguous('x')}, self.in_proj_weight, self.in_proj_bias)",
        ),
        "heads merged by a view": ("out.transpose(1, 2).reshape(batch", "out.transpose(1, 2).view(batch"),
        "causal forgotten where a mask hides nothing": (
            "        out = kernel(q, k, v, mask=mask, causal=causal)  #",
            "        every = mask is not None and bool(mask.all())\n"
            "        out = kernel(q, k, v, mask=None if every else mask, causal=causal and not every)  #",
        ),
    },
    "transformer.py": {
        "norm before attention left out": ("self.self_attn(self.norm1(x)", "self.self_attn((x)"),
        "norms swapped": ("self.linear1(self.norm2(x))", "self.linear1(self.norm1(x))"),
        "residual left out": ("x = x + self.self_attn(", "x = self.self_attn("),
        "mask not passed on": ("(self.norm1(x), mask=mask, causal", "(self.norm1(x), causal"),
        "another activation": ("F.relu(", "F.gelu("),
    },
}
# These are in no case of the smallest tier, and some in none of the pr tier: code takes seconds to be generated.
COMPILING_MUTATIONS: dict[str, dict[str, tuple[str, str]]] = {
    "compiled.py": {
        "mask not passed on": (
            "(q, k, v, mask=mask, causal=causal, scale=scale, **options)",
            "(q, k, v, mask=None, causal=causal, scale=scale, **options)",
        ),
        "scale ignored": ("causal=causal, scale=scale, **", "causal=causal, scale=None, **"),
        "options not passed on": (", **options)\n", ")\n"),
        "causal dropped": ("causal=causal, scale=scale, **", "causal=False, scale=scale, **"),
    },
    "flex.py": {
        "cap forgotten": ("score = cap(score, softcap)", "score = score"),
        "sinks of the first head": ("sinks[h]", "sinks[0 * h]"),
        "sink hidden by causal": ("visible if sink is None else visible | (j == sink)", "visible"),
        "sink hidden by a bool mask": ("value=every.dtype == torch.bool", "value=0"),
        "value of the sink's key kept": ("F.pad(v, (0, 0, 0, 1))", "torch.cat([v, v[:, :, :1]], 2)"),
        "scale ignored": ("block_mask=blocks, scale=scale", "block_mask=blocks, scale=None"),
        "bool mask inverted": ("near(b, h, i, j) & mask[b, h, i, j]", "near(b, h, i, j) & ~mask[b, h, i, j]"),
        "float mask subtracted": ("score + bias[b, h, i, j]", "score - bias[b, h, i, j]"),
        "bool mask of the first head": ("& mask[b, h, i, j]", "& mask[b, 0 * h, i, j]"),
        "bias of the first item": ("score + bias[b, h, i, j]", "score + bias[0 * b, h, i, j]"),
        "aligned top-left": ("position = i + offset", "position = i"),
        "window open to the future": (" & (j < position + window)", ""),
        "window one key too wide": ("(j > position - window)", "(j >= position - window)"),
    },
}
TABLE = [(file, name) for file, edits in MUTATIONS.items() for name in edits]
COMPILING_TABLE = [(file, name) for file, edits in COMPILING_MUTATIONS.items() for name in edits]


# By which subjects an edit of a file is seen the soonest: of a kernel's own file, by the kernel.
SEEN_BY = {
    "scoring.py": {"masked"},
    "shapes.py": {"masked", "sdpa"},
    "multihead.py": {"mha", "mhaloop"},
    "transformer.py": {"block"},
}


@cache
def answers(case: Case) -> tuple[Results, Results]:
    """The oracle's and the yardstick's results for a case, which are the same whatever was edited."""
    workload = build(case, parameter_sizes(case, HEAD))
    return oracle(workload), yardstick(workload)


def complaint(side: Side, case: Case) -> str | None:
    """Say what is wrong with a side's output and gradients, or that it raised, or wrote to its inputs."""
    exact, naive = answers(case)
    workload = build(case, parameter_sizes(case, side))
    before = workload.snapshot()
    try:
        with torch.set_grad_enabled(case.backward):
            results = bind(workload, side).results()
    except Exception as error:  # noqa: BLE001  # whatever it is, the gate says it
        return f"{type(error).__name__}: {error}"
    if workload.differs_from(before):
        return "wrote to its inputs"
    return next(
        (
            c
            for error in drift.hold_to_budget(results, exact, naive, looser=workload.looser, values=case.shape.values)
            for c in error.complaints
        ),
        None,
    )


def caught(side: Side, tier: str = "smoke", subjects: Collection[str] | None = None) -> str | None:
    """Say what is first found wrong with a side, in the smallest tier and all subjects of it; None if nothing."""
    for case, unsupported in matrix(side.kernels, side.modules, tier, ("cpu",)).items():
        if unsupported is None and (subjects is None or case.subject in subjects):
            found = complaint(side, case)
            if found is not None:
                return f"{case.id}: {found}"
    return None


@pytest.mark.parametrize("subject", [name for name in (*KERNELS, *attention.MODULES) if name not in COMPILING])
def test_a_kernel_as_it_is_passes(subject: str) -> None:
    assert caught(HEAD, subjects={subject}) is None  # `make bench` says so of a larger tier


@pytest.mark.parametrize(("file", "name"), TABLE, ids=[f"{file}-{name}".replace(" ", "-") for file, name in TABLE])
def test_a_wrong_edit_is_caught_by_the_numerics_gate_alone(tmp_path: Path, file: str, name: str) -> None:
    with edited(tmp_path, file, *MUTATIONS[file][name]) as side:
        soonest = caught(side, subjects=SEEN_BY.get(file, {file.removesuffix(".py")}))
        assert soonest or caught(side) is not None


@pytest.fixture
def not_compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have what would be compiled run as its source says: what is wrong stays as wrong."""
    compiling.compile_whole.cache_clear()  # an earlier test may have compiled a kernel, which would compile every case
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True, raising=False)
    yield
    compiling.compile_whole.cache_clear()


@pytest.mark.usefixtures("not_compiled")
@pytest.mark.parametrize(
    ("file", "name"), COMPILING_TABLE, ids=[f"{f}-{n}".replace(" ", "-") for f, n in COMPILING_TABLE]
)
def test_a_wrong_edit_of_a_kernel_that_compiles_is_caught_in_the_full_tier(
    tmp_path: Path, file: str, name: str
) -> None:
    kernel = KERNELS[file.removesuffix(".py")]
    asked: dict[str, Any] = {"mask": "bool", "causal": True, "grouped": True, "dtype": torch.float32, "device": "cpu"}
    if (lacks := kernel.capabilities.lacks(**asked)) is not None:
        pytest.skip(f"{kernel.name} does not support {lacks}")
    with edited(tmp_path, file, *COMPILING_MUTATIONS[file][name]) as side:
        assert caught(side, "full", {kernel.name}) is not None


@pytest.mark.usefixtures("not_compiled")
@pytest.mark.parametrize("subject", COMPILING)
def test_a_kernel_that_compiles_passes_as_it_is(subject: str) -> None:
    assert caught(HEAD, "full", {subject}) is None


@contextmanager
def edited(directory: Path, file: str, right: str, wrong: str) -> Iterator[Side]:
    """Import the package under another name, with an edited copy of one file in place of that file."""
    text = (PACKAGE / file).read_text(encoding="utf-8")
    assert text.count(right) == 1, "the table has fallen behind the code"
    (directory / file).write_text(text.replace(right, wrong), encoding="utf-8")
    name = "attention_edited"
    places = [str(directory), str(PACKAGE)]  # the edited file is found first
    spec = spec_from_file_location(name, PACKAGE / "__init__.py", submodule_search_locations=places)
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(package)
        assert sys.modules[f"{name}.{file.removesuffix('.py')}"].__file__ == str(directory / file)
        yield Side.of("head", package)
    finally:
        for module in [m for m in sys.modules if m.partition(".")[0] == name]:
            del sys.modules[module]
