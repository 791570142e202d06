"""Requests that are refused: each message says what was asked and what was seen.

Over 300 lines: one message a test.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nested
from torch.masked import masked_tensor

from attention import (
    KERNELS,
    MODULES,
    Capabilities,
    Kernel,
    MultiHeadAttention,
    TinyTransformer,
    reference,
    register,
)
from attention.registry import register_module
from bench.suite.matrix import COMPILING

ATTENDERS = {**KERNELS, "reference": reference}
SHAPES = {"q": (2, 4, 3, 8), "k": (2, 4, 5, 8), "v": (2, 4, 5, 6)}
EVERYONE = pytest.mark.parametrize("attend", ATTENDERS.values(), ids=ATTENDERS)


def zeros(**shapes: tuple[int, ...]) -> dict[str, Any]:
    return {name: torch.zeros(shape) for name, shape in (SHAPES | shapes).items()}


@EVERYONE
@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        ({"q": (4, 3, 8)}, "q, k and v must have four dimensions (batch, heads, tokens, head size)"),
        ({"k": (1, 2, 4, 5, 8)}, "q, k and v must have four dimensions (batch, heads, tokens, head size)"),
        ({"v": ()}, "q, k and v must have four dimensions (batch, heads, tokens, head size)"),
        ({"v": (1, 4, 5, 6)}, "k and v must agree in batch, heads and tokens"),
        ({"v": (2, 2, 5, 6)}, "k and v must agree in batch, heads and tokens"),
        ({"v": (2, 4, 6, 6)}, "k and v must agree in batch, heads and tokens"),
        ({"q": (1, 4, 3, 8)}, "q and k must agree in batch and head size"),
        ({"q": (2, 4, 3, 9)}, "q and k must agree in batch and head size"),
        ({"q": (2, 4, 3, 0), "k": (2, 4, 5, 0)}, "q and k must have a head size of at least 1"),
        ({"q": (2, 6, 3, 8)}, "q's heads must be a multiple of k's heads"),
        ({"q": (2, 2, 3, 8)}, "q's heads must be a multiple of k's heads"),
        ({"q": (2, 0, 3, 8)}, "q's heads must be a multiple of k's heads"),
        ({"k": (2, 0, 5, 8), "v": (2, 0, 5, 6)}, "q's heads must be a multiple of k's heads"),
    ],
)
def test_shapes_that_do_not_go_together_are_quoted(attend: Any, shapes: dict[str, Any], complaint: str) -> None:
    seen = SHAPES | shapes
    message = f"{complaint}; saw q {seen['q']}, k {seen['k']}, v {seen['v']}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        attend(**zeros(**shapes))


@EVERYONE
def test_causal_with_more_queries_than_keys_is_refused(attend: Any) -> None:
    message = (
        "causal attention needs at least as many keys as queries; saw q (2, 4, 6, 8), k (2, 4, 5, 8), v (2, 4, 5, 6)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        attend(**zeros(q=(2, 4, 6, 8)), causal=True)


@EVERYONE
@pytest.mark.parametrize(
    ("dtypes", "seen"),
    [
        ({"k": torch.float16}, "torch.float32, torch.float16, torch.float32"),
        ({"v": torch.float64}, "torch.float32, torch.float32, torch.float64"),
        (dict.fromkeys("qkv", torch.int64), "torch.int64, torch.int64, torch.int64"),
        (dict.fromkeys("qkv", torch.complex64), "torch.complex64, torch.complex64, torch.complex64"),
    ],
)
def test_dtypes_that_do_not_go_together_are_quoted(attend: Any, dtypes: dict[str, torch.dtype], seen: str) -> None:
    inputs = {name: t.to(dtypes.get(name)) for name, t in zeros().items()}
    with pytest.raises(ValueError, match=f"^q, k and v must have one floating dtype; saw {seen}$"):
        attend(**inputs)


@EVERYONE
@pytest.mark.parametrize(("name", "seen"), [("q", "meta, cpu, cpu"), ("k", "cpu, meta, cpu"), ("v", "cpu, cpu, meta")])
def test_devices_that_do_not_go_together_are_quoted(attend: Any, name: str, seen: str) -> None:
    inputs = zeros()
    inputs[name] = inputs[name].to("meta")
    with pytest.raises(ValueError, match=f"^q, k and v must be on one device; saw {seen}$"):
        attend(**inputs)


@EVERYONE
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.complex64])
def test_mask_neither_bool_nor_floating_is_refused(attend: Any, dtype: torch.dtype) -> None:
    message = f"mask must be bool (True = attend) or floating (added to the scores); saw {dtype}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        attend(**zeros(), mask=torch.zeros(3, 5, dtype=dtype))


@EVERYONE
def test_mask_on_another_device_is_refused(attend: Any) -> None:
    with pytest.raises(ValueError, match=r"^mask must be on q's device cpu; saw meta$"):
        attend(**zeros(), mask=torch.ones(3, 5, device="meta"))


@EVERYONE
@pytest.mark.parametrize("shape", [(5, 3), (3, 6), (2, 3, 5), (4, 4, 3, 5), (2, 2, 3, 5), (1, 2, 4, 3, 5), (0,)])
def test_mask_that_does_not_broadcast_is_quoted(attend: Any, shape: tuple[int, ...]) -> None:
    message = f"mask must broadcast to (B, Hq, Tq, Tk) = (2, 4, 3, 5); saw {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        attend(**zeros(), mask=torch.ones(shape, dtype=torch.bool))


@EVERYONE
@pytest.mark.parametrize("window", [0, -1, True, 2.0, "2", torch.tensor(2)], ids=repr)
def test_window_that_is_no_whole_number_from_one_is_quoted(attend: Any, window: Any) -> None:
    message = f"window must be a whole number from 1, or None for no window; saw {window!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        attend(**zeros(), window=window)


@EVERYONE
@pytest.mark.parametrize(
    ("scale", "seen"),
    [
        (torch.tensor(0.3, requires_grad=True), "a tensor ()"),
        (torch.tensor(0.3), "a tensor ()"),
        (torch.ones(4, 1, 1), "a tensor (4, 1, 1)"),
        ("0.3", "'0.3'"),
        (1j, "1j"),
    ],
)
def test_scale_that_is_no_number_is_quoted_with_the_way_to_learn_one(attend: Any, scale: Any, seen: str) -> None:
    message = f"scale must be a number, or None for 1 / sqrt(D); saw {seen}: multiply q by it, and give scale=1.0"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        attend(**zeros(), scale=scale)


@pytest.mark.parametrize("name", ["manual", "masked", "blockwise", "sdpa", "sdpa_math", "reference"])
def test_numbers_of_every_kind_are_scales_and_one_multiplied_into_q_is_learned(name: str) -> None:
    attend: Any = ATTENDERS[name]
    inputs = {name: torch.randn(t.shape, dtype=torch.float64) for name, t in zeros().items()}
    want = attend(**inputs, scale=2.0)
    for scale in (2, np.float32(2), np.float64(2), np.int64(2)):
        torch.testing.assert_close(attend(**inputs, scale=scale), want)
    learned = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    out = attend(inputs["q"] * learned, inputs["k"], inputs["v"], scale=1.0)
    torch.testing.assert_close(out, want)
    assert torch.autograd.grad(out.square().sum(), learned)[0] != 0


DENSE = torch.ones(2, 4, 5, 8)


@pytest.fixture(scope="module")
def not_dense() -> dict[str, Any]:
    """Tensors (2, 4, 5, 8) that are not dense, by what is said of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says of each that it is a prototype
        items = [torch.ones(5, 4, 8), torch.ones(3, 4, 8)]
        return {
            "nested, torch.strided": nested.nested_tensor([t.mT.mT for t in items], layout=torch.strided),
            "nested, torch.jagged": nested.nested_tensor(items, layout=torch.jagged).transpose(1, 2),
            "torch.sparse_coo": DENSE.to_sparse(),
            "torch.sparse_csr": torch.ones(5, 5).to_sparse_csr(),
            "torch._mkldnn": DENSE.to_mkldnn(),
            "MaskedTensor": masked_tensor(DENSE, DENSE > 0),
            "ndarray": DENSE.numpy(),
        }


@EVERYONE
@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors:UserWarning")
def test_tensors_that_are_not_dense_are_named(attend: Any, not_dense: dict[str, Any]) -> None:
    for name, seen in product(("q", "k", "v", "mask", "sinks"), not_dense):
        given = dict.fromkeys("qkv", DENSE) | {name: not_dense[seen]}
        message = f"{name} must be a dense tensor; saw {seen}: make it dense, and hide padding by a mask"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            attend(**given)


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors:UserWarning")
def test_tokens_that_are_not_dense_are_named_by_modules_and_caches(not_dense: dict[str, Any]) -> None:
    modules = {name: cls(8, 2) for name, cls in MODULES.items()}
    cache = MultiHeadAttention(8, 2).make_cache(1, 4)
    calls: list[tuple[str, Callable[[Any], object]]] = [
        *(("x", module) for module in modules.values()),
        *(("mask", lambda t, of=module: of(torch.ones(2, 5, 8), mask=t)) for module in modules.values()),
        ("tokens", TinyTransformer(5, 8, 8)),
        ("k", lambda t: cache.append(t, DENSE)),
        ("v", lambda t: cache.append(DENSE, t)),
    ]
    for (name, call), seen in product(calls, not_dense):
        with pytest.raises(ValueError, match=f"^{name} must be a dense tensor; saw {re.escape(seen)}: make it dense"):
            call(not_dense[seen])


@EVERYONE
def test_dropout_is_not_offered(attend: Any) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'dropout_p'"):
        attend(**zeros(), dropout_p=0.1)


@EVERYONE
def test_options_are_taken_by_name_only(attend: Any) -> None:
    with pytest.raises(TypeError, match="positional argument"):
        attend(*zeros().values(), None)


def unreached(*_: Any, **__: Any) -> Tensor:
    raise AssertionError("the kernel's code ran")


@pytest.mark.parametrize(
    ("limits", "request_", "missing"),
    [
        ({"masks": frozenset({"float"})}, {"mask": torch.ones(3, 5, dtype=torch.bool)}, "a bool mask"),
        ({"masks": frozenset({"bool"})}, {"mask": torch.ones(3, 5)}, "a float mask"),
        ({"causal": False}, {"causal": True}, "causal attention"),
        ({"grouped": False}, {"q": torch.zeros(2, 8, 3, 8)}, "grouped queries"),
        ({"dtypes": frozenset({torch.float16})}, {}, "dtype torch.float32"),
        ({"devices": frozenset({"cuda"})}, {}, "device cpu"),
        ({"backward": False}, {"v": torch.zeros(2, 4, 5, 6, requires_grad=True)}, "a backward pass"),
        ({"backward": False}, {"mask": torch.zeros(3, 5, requires_grad=True)}, "a backward pass"),
        ({}, {"window": 2}, "a window"),
        ({"windowless": False}, {}, "attention without a window"),
        ({"value_size": False}, {}, "values with a head size of their own"),
        ({"obstacle": lambda **asked: f"it on {asked['device']}"}, {}, "it on cpu"),
    ],
)
def test_request_that_a_kernel_cannot_serve_is_refused_by_name(
    limits: dict[str, Any], request_: dict[str, Any], missing: str
) -> None:
    kernel = Kernel("narrow", unreached, replace(Capabilities(), **limits))
    with pytest.raises(NotImplementedError, match=f"^kernel 'narrow' does not support {missing}$"):
        kernel(**zeros() | request_)


def test_kernel_without_backward_serves_inputs_that_need_none() -> None:
    kernel = Kernel("forward_only", KERNELS["masked"].function, Capabilities(backward=False))
    inputs = {name: t.requires_grad_() for name, t in zeros().items()}
    with torch.no_grad():
        assert kernel(**inputs).shape == (2, 4, 3, 6)


@pytest.mark.parametrize("claimant", [k for n, k in KERNELS.items() if n not in COMPILING], ids=lambda k: k.name)
@pytest.mark.parametrize(
    "options",
    [{"mask": torch.ones(3, 5, dtype=torch.bool)}, {"mask": torch.ones(3, 5)}, {"causal": True}],
    ids=["bool", "float", "causal"],
)
def test_registered_kernel_serves_what_it_claims_and_refuses_the_rest(
    claimant: Kernel, options: dict[str, Any]
) -> None:
    mask = options.get("mask")
    lacks = claimant.capabilities.lacks(
        mask=None if mask is None else "bool" if mask.dtype == torch.bool else "float",
        causal=options.get("causal", False),
        grouped=False,
        dtype=torch.float32,
        device="cpu",
        value_size=True,
    )
    if lacks is None:
        assert claimant(**zeros(), **options).shape == (2, 4, 3, 6)
    else:
        with pytest.raises(NotImplementedError, match=f"^kernel '{claimant.name}' does not support {lacks}$"):
            claimant(**zeros(), **options)


@pytest.mark.parametrize("claimant", KERNELS.values(), ids=KERNELS)
def test_eight_bit_floats_are_refused(claimant: Kernel) -> None:
    eight = {name: t.to(torch.float8_e4m3fn) for name, t in zeros().items()}
    message = f"kernel '{claimant.name}' does not support dtype torch.float8_e4m3fn"
    with pytest.raises(NotImplementedError, match=f"^{re.escape(message)}$"):
        claimant(**eight)


def test_name_that_is_taken_is_not_registered_again() -> None:
    kernels, modules = dict(KERNELS), dict(MODULES)
    with pytest.raises(ValueError, match=r"^a kernel named 'manual' is registered already$"):
        register("manual")(unreached)
    with pytest.raises(ValueError, match=r"^a module named 'mha' is registered already$"):
        register_module("mha")(MultiHeadAttention)
    assert (kernels, modules) == (KERNELS, MODULES)


NO_NAMES = ["", "a/b", "mine[64]", "two\nlines", "x" * 300, "größe", "9lives", "a-b", "a b", "*"]


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
@pytest.mark.parametrize("add", [register, register_module])
def test_a_name_that_ids_and_waivers_could_not_hold_is_refused_with_the_rule(
    add: Callable[[str], object], name: str
) -> None:
    known = len(KERNELS), len(MODULES)
    with pytest.raises(
        ValueError, match=r"^a name is a letter or _, then letters, digits or _, 64 at most.*; saw "
    ) as e:
        add(name)
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 250
    assert (len(KERNELS), len(MODULES)) == known
