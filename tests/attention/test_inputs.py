"""Requests that are refused: each message says what was asked and what was seen."""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
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

ATTENDERS = {**KERNELS, "reference": reference}
SHAPES = {"q": (2, 4, 3, 8), "k": (2, 4, 5, 8), "v": (2, 4, 5, 6)}
FOUR = "q, k and v must have four dimensions (batch, heads, tokens, head size)"
HEADS = "q's heads must be a multiple of k's heads"


def zeros(**shapes: tuple[int, ...]) -> dict[str, Any]:
    return {name: torch.zeros(shape) for name, shape in (SHAPES | shapes).items()}


def answer(attend: Any, given: dict[str, Any]) -> str:
    """The error that a call raises, in words."""
    try:
        attend(**given)
    except (ValueError, TypeError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def shapes(complaint: str, *, causal: bool = False, **of: tuple[int, ...]) -> tuple[dict[str, Any], str]:
    seen = SHAPES | of
    return zeros(**of) | {"causal": causal}, f"{complaint}; saw q {seen['q']}, k {seen['k']}, v {seen['v']}"


def dtypes(seen: str, **of: torch.dtype) -> tuple[dict[str, Any], str]:
    inputs = {name: t.to(of.get(name)) for name, t in zeros().items()}
    return inputs, f"q, k and v must have one floating dtype; saw {seen}"


def on_meta(name: str, seen: str) -> tuple[dict[str, Any], str]:
    return {name: zeros()[name].to("meta")}, f"q, k and v must be on one device; saw {seen}"


def mask(complaint: str, *shape: int, **of: Any) -> tuple[dict[str, Any], str]:
    return {"mask": torch.zeros(shape, **{"dtype": torch.bool} | of)}, f"mask must {complaint}"


def scale(value: Any, seen: str) -> tuple[dict[str, Any], str]:
    words = f"scale must be a number, or None for 1 / sqrt(D); saw {seen}: multiply q by it, and give scale=1.0"
    return {"scale": value}, words


def sinks(value: Tensor) -> tuple[dict[str, Any], str]:
    seen = f"{tuple(value.shape)}, {value.dtype}, {value.device}"
    return {"sinks": value}, f"sinks must be floating, one for each of q's 4 heads, on cpu; saw {seen}"


# What is given in place of zeros of SHAPES, and what is said of it.
REFUSED: list[tuple[dict[str, Any], str]] = [
    shapes(FOUR, q=(4, 3, 8)),
    shapes(FOUR, k=(1, 2, 4, 5, 8)),
    shapes(FOUR, v=()),
    *(shapes("k and v must agree in batch, heads and tokens", v=v) for v in ((1, 4, 5, 6), (2, 2, 5, 6), (2, 4, 6, 6))),
    *(shapes("q and k must agree in batch and head size", q=q) for q in ((1, 4, 3, 8), (2, 4, 3, 9))),
    shapes("q and k must have a head size of at least 1", q=(2, 4, 3, 0), k=(2, 4, 5, 0)),
    *(shapes(HEADS, q=q) for q in ((2, 6, 3, 8), (2, 2, 3, 8), (2, 0, 3, 8))),
    shapes(HEADS, k=(2, 0, 5, 8), v=(2, 0, 5, 6)),
    shapes("causal attention needs at least as many keys as queries", causal=True, q=(2, 4, 6, 8)),
    dtypes("torch.float32, torch.float16, torch.float32", k=torch.float16),
    dtypes("torch.float32, torch.float32, torch.float64", v=torch.float64),
    dtypes("torch.int64, torch.int64, torch.int64", **dict.fromkeys("qkv", torch.int64)),
    dtypes("torch.complex64, torch.complex64, torch.complex64", **dict.fromkeys("qkv", torch.complex64)),
    on_meta("q", "meta, cpu, cpu"),
    on_meta("k", "cpu, meta, cpu"),
    on_meta("v", "cpu, cpu, meta"),
    *(
        mask(f"be bool (True = attend) or floating (added to the scores); saw {dtype}", 3, 5, dtype=dtype)
        for dtype in (torch.int64, torch.uint8, torch.complex64)
    ),
    mask("be on q's device cpu; saw meta", 3, 5, device="meta"),
    *(
        mask(f"broadcast to (B, Hq, Tq, Tk) = (2, 4, 3, 5); saw {shape}", *shape)
        for shape in ((5, 3), (3, 6), (2, 3, 5), (4, 4, 3, 5), (2, 2, 3, 5), (1, 2, 4, 3, 5), (0,))
    ),
    *(
        ({"window": window}, f"window must be a whole number from 1, or None for no window; saw {window!r}")
        for window in (0, -1, True, 2.0, "2", torch.tensor(2))
    ),
    scale(torch.tensor(0.3, requires_grad=True), "a tensor ()"),
    scale(torch.tensor(0.3), "a tensor ()"),
    scale(torch.ones(4, 1, 1), "a tensor (4, 1, 1)"),
    scale("0.3", "'0.3'"),
    scale(10**400, f"{10**79}"),
    *(
        ({"causal": causal}, f"causal must be True or False; saw {seen}: give a mask as mask=...")
        for causal, seen in (
            (torch.ones(3, 5), "a tensor (3, 5)"),
            (torch.tensor(0), "a tensor ()"),
            ("no", "'no'"),
            (1, "1"),
        )
    ),
    scale(1j, "1j"),
    *(
        ({"softcap": cap}, f"softcap must be a number above zero, or None for no cap; saw {cap!r}")
        for cap in (0, -1.0, 10**400, float("inf"), float("nan"), "2")
    ),
    *(sinks(value) for value in (torch.zeros(2), torch.zeros(4, 1), torch.zeros(4, dtype=torch.long))),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=lambda value: value[:60] if isinstance(value, str) else "")
def test_what_does_not_go_together_is_quoted(given: dict[str, Any], message: str) -> None:
    answers = {name: answer(attend, zeros() | given) for name, attend in ATTENDERS.items()}
    assert answers == dict.fromkeys(ATTENDERS, f"ValueError: {message}")


@pytest.mark.parametrize("attend", ATTENDERS.values(), ids=ATTENDERS)
def test_dropout_and_options_by_position_are_not_offered(attend: Any) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'dropout_p'"):
        attend(**zeros(), dropout_p=0.1)
    with pytest.raises(TypeError, match="positional argument"):
        attend(*zeros().values(), None)


@pytest.mark.parametrize("name", ["manual", "masked", "blockwise", "sdpa", "sdpa_math", "reference"])
def test_numbers_of_every_kind_are_scales_and_one_multiplied_into_q_is_learned(name: str) -> None:
    attend: Any = ATTENDERS[name]
    inputs = {name: torch.randn(t.shape, dtype=torch.float64) for name, t in zeros().items()}
    want = attend(**inputs, scale=2.0)
    for scale in (2, np.float32(2), np.float64(2), np.int64(2), Fraction(2)):
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


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors:UserWarning")
@pytest.mark.parametrize("attend", ATTENDERS.values(), ids=ATTENDERS)
def test_tensors_that_are_not_dense_are_named(attend: Any, not_dense: dict[str, Any]) -> None:
    for name, seen in product(("q", "k", "v", "mask", "sinks"), not_dense):
        message = f"{name} must be a dense tensor; saw {seen}: make it dense, and hide padding by a mask"
        assert answer(attend, dict.fromkeys("qkv", DENSE) | {name: not_dense[seen]}) == f"ValueError: {message}"


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
        ({}, {"softcap": 2.0}, "a cap on scores"),
        ({}, {"sinks": torch.zeros(4)}, "sinks"),
        ({}, dict.fromkeys("qkv", torch.zeros(2, 4, 5, 8, dtype=torch.float8_e4m3fn)), "dtype torch.float8_e4m3fn"),
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
