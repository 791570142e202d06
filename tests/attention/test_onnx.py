"""A witness from outside: the node tests of ONNX's Attention operator, which has caps, windows, caches and padding.

ONNX aligns ``is_causal`` and windows by what is in the cache; where that is not the last query at the last key, they
are given as part of the mask.
"""

import importlib
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx.backend.test.case.node as node_tests
import pytest
import torch
from torch import Tensor

from attention import KERNELS, Kernel

CASES = 93  # of onnx 1.23
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "bool": torch.bool}
# ONNX's own tolerances are for float32: half precision is held to a few units in the last place of values near one.
TOLERANCES = {torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Given:
    """One node test: attributes, inputs by name, and the output (B, Hq, Tq, Dv), or (B, Tq, Hq Dv)."""

    name: str
    attributes: dict[str, Any]
    inputs: dict[str, Tensor]
    output: Tensor
    rtol: float
    atol: float


def as_tensor(array: Any) -> Tensor:
    dtype = DTYPES.get(array.dtype.name)
    return torch.tensor(np.asarray(array, "float32")).to(dtype) if dtype else torch.tensor(array)


@cache
def cases() -> list[Given]:
    with warnings.catch_warnings():  # numpy's, of the reference that computes the outputs
        warnings.simplefilter("ignore")
        vars(node_tests)["_TargetOpType"] = "Attention"  # the only operator that is collected
        importlib.import_module("onnx.backend.test.case.node.attention")
    found = []
    for case in node_tests._NodeTestCases:
        nodes = [] if case.model is None else case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type != "Attention":
            continue  # the same by functions of simpler operators
        inputs, outputs = case.data_sets[0]
        names = [name for name in nodes[0].input if name]
        attributes = {a.name: onnx_value(a) for a in nodes[0].attribute}
        tensors = dict(zip(names, map(as_tensor, inputs), strict=True))
        found.append(Given(case.name, attributes, tensors, as_tensor(outputs[0]), case.rtol, case.atol))
    return found


def onnx_value(attribute: Any) -> Any:
    return attribute.i if attribute.type == attribute.INT else attribute.f


def heads(x: Tensor, n_heads: int | None) -> Tensor:
    """(B, T, H D) -> (B, H, T, D); four dimensions stay."""
    return x if n_heads is None else x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def attend(kernel: Kernel, given: Given) -> Tensor:
    inputs, options = given.inputs, given.attributes
    flat = inputs["Q"].dim() == 3
    q = heads(inputs["Q"], options.get("q_num_heads") if flat else None)
    k, v = (heads(inputs[name], options.get("kv_num_heads") if flat else None) for name in "KV")
    past = 0
    if "past_key" in inputs:
        past = inputs["past_key"].shape[2]
        k, v = torch.cat([inputs["past_key"], k], dim=2), torch.cat([inputs["past_value"], v], dim=2)
    n_queries, n_keys, batch = q.shape[2], k.shape[2], q.shape[0]
    position = torch.arange(n_queries).expand(batch, 1, n_queries)[..., None] + past  # (B, 1, Tq, 1)
    key, seen = torch.arange(n_keys), torch.ones(batch, 1, n_queries, n_keys, dtype=torch.bool)
    if "nonpad_kv_seqlen" in inputs:
        length = inputs["nonpad_kv_seqlen"].view(-1, 1, 1, 1)
        position = position + length - n_queries
        seen = seen & (key < length)
    causal = bool(options.get("is_causal", 0))
    if causal and not bool((position[:, 0, -1, 0] == n_keys - 1).all()):
        seen, causal = seen & (key <= position), False
    left, right = options.get("left_window_size", -1), options.get("right_window_size", -1)
    if left >= 0:
        seen = seen & (key >= position - left)
    if right >= 0:
        seen = seen & (key <= position + right)
    mask: Tensor | None = None if bool(seen.all()) else seen
    if "attn_mask" in inputs:
        own = inputs["attn_mask"]
        if own.shape[-1] not in (1, n_keys):  # what is not in the mask is hidden
            hidden = False if own.dtype == torch.bool else -torch.inf
            own = torch.nn.functional.pad(own, (0, n_keys - own.shape[-1]), value=hidden)
        mask = own & seen if own.dtype == torch.bool else own.masked_fill(~seen, -torch.inf)
    softcap = options.get("softcap", 0.0) or None
    out = kernel(q, k, v, mask=mask, causal=causal, scale=options.get("scale"), softcap=softcap)
    return out.transpose(1, 2).flatten(2) if flat else out


@pytest.mark.parametrize("name", ["masked", "blockwise"])
def test_every_node_test_of_onnx_attention_holds(name: str) -> None:
    wrong = []
    for given in cases():
        got, tolerance = attend(KERNELS[name], given), TOLERANCES.get(given.output.dtype)
        rtol, atol = (tolerance, tolerance) if tolerance else (given.rtol, max(given.atol, 1e-6))
        if not torch.allclose(got.double(), given.output.double(), rtol=rtol, atol=atol):
            wrong.append(f"{given.name}: {float((got.double() - given.output.double()).abs().max()):.2g}")
    assert wrong == []
    assert len(cases()) == CASES
    assert sum(bool(given.attributes.get("softcap")) for given in cases()) == 11
