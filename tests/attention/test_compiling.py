"""Kernels that compile: a few requests that hold all that the other tests ask of a kernel one by one.

Code is generated where it is held to its budget, which takes seconds; the other tests trace it.
"""

import re
import sys
from collections.abc import Iterator
from functools import wraps
from math import nan
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend

from attention import KERNELS, Kernel, compiling
from bench.suite.matrix import COMPILING, matrix

from .conftest import hold_to_rule, make

EVERY_KERNEL = pytest.mark.parametrize("attend", [KERNELS[name] for name in COMPILING], ids=COMPILING)
ASKED: dict[str, Any] = {"causal": True, "grouped": True, "dtype": torch.float32, "device": "cpu"}


def compile_with(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``torch.compile`` use the backend, which knows nothing of the options of torch's own."""
    own = torch.compile

    @wraps(own)
    def compile_(function: Any, *, options: object = None, **how: Any) -> Any:
        return own(function, backend=backend, **how)

    monkeypatch.setattr(torch, "compile", compile_)


@pytest.fixture
def aot_eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Have ``torch.compile`` trace, and run what it traced without generating code; the backend counts the graphs."""
    counter = CompileCounterWithBackend("aot_eager")
    compile_with(counter, monkeypatch)
    torch.compiler.reset()
    compiling.compile_whole.cache_clear()
    yield counter
    compiling.compile_whole.cache_clear()
    torch.compiler.reset()


@EVERY_KERNEL
def test_masked_causal_grouped_and_blind_is_within_budget_and_hides_what_is_not_finite(attend: Kernel) -> None:
    if (lacks := attend.capabilities.lacks(mask="bool", backward=True, **ASKED)) is not None:
        pytest.skip(f"{attend.name} does not support {lacks}")
    options: dict[str, Any] = {"kind": "bool", "causal": True}
    rule = "whatever keys a mask hides, output and gradients are within the error budget"
    hold_to_rule(attend, rule, size := "b2h4kv2t33k49d16", **options, backward=True)
    hold_to_rule(attend, "a value that is masked from all reaches no gradient", size, **options, value=nan)
    q, k, v = make(kv_heads=2)
    out = attend(q, k, v, causal=True)
    with pytest.raises(RuntimeError, match="create_graph|double backward"):
        torch.autograd.grad(out.sum(), q, create_graph=True)[0].sum().backward()


@EVERY_KERNEL
def test_float_mask_scale_and_values_of_their_own_size_are_within_budget_in_fp16(attend: Kernel) -> None:
    options: dict[str, Any] = {"kind": "float", "causal": True, "scale": 0.3}
    rule = "output is within the error budget"
    hold_to_rule(attend, rule, "b2h4kv2t33k49d16v24", torch.float16, **options, hidden="every key from one query")


@EVERY_KERNEL
def test_inference_mode_and_no_grad_give_the_same_result_each_compiled(attend: Kernel, aot_eager: Any) -> None:
    if (lacks := attend.capabilities.lacks(mask=None, **ASKED)) is not None:
        pytest.skip(f"{attend.name} does not support {lacks}")
    q, k, v = (t.detach() for t in make(1, 2, 8, 8, 4))
    want = KERNELS["masked"](q, k, v, causal=True)
    with torch.inference_mode():
        torch.testing.assert_close(attend(q, k, v, causal=True), want)
    in_inference_mode = aot_eager.frame_count
    assert in_inference_mode > 0
    torch.testing.assert_close(attend(q, k, v, causal=True), want)
    assert aot_eager.frame_count > in_inference_mode


@EVERY_KERNEL
def test_compiled_callers_get_the_formula(attend: Kernel) -> None:
    q, k, v = (t.detach() for t in make())
    outer = torch.compile(lambda q, k, v: attend(q, k, v, causal=True), backend="eager", fullgraph=True)
    torch.testing.assert_close(outer(q, k, v), KERNELS["masked"](q, k, v, causal=True))


def test_more_shapes_than_torch_s_own_limit_are_all_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()
    compile_with(counter, monkeypatch)
    shapes = torch._dynamo.config.recompile_limit + 4

    def double(t: Tensor) -> Tensor:
        return t * 2

    function = compiling.compile_whole(double)
    for size in range(2, 2 + shapes):
        function(torch.ones(size))
    assert counter.frame_count == shapes


def test_beyond_the_limit_the_call_fails_and_nothing_runs_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_with("eager", monkeypatch)
    monkeypatch.setattr(compiling, "RECOMPILE_LIMIT", 1)

    def double(t: Tensor) -> Tensor:
        return t * 2

    function = compiling.compile_whole(double)
    function(torch.ones(3))
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        function(torch.ones(4))


@pytest.mark.parametrize(
    ("compiler", "seen"), [("no-such-compiler", "no-such-compiler"), ("", r"(g\+\+|clang\+\+|cl)")]
)
@EVERY_KERNEL
def test_machine_without_a_compiler_is_a_reason_to_skip(
    attend: Kernel, compiler: str, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "_missing", compiling._missing.__wrapped__)
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("PATH", "")
    cases = matrix(KERNELS, {}, "pr", ("cpu",))
    (reason,) = {reason for case, reason in cases.items() if case.subject == attend.name and case.hiding.window is None}
    assert re.fullmatch(
        f"{attend.name} does not support device cpu here: torch.compile needs a C[+][+] compiler, "
        f"and {seen} is not installed: install it, or set CXX",
        str(reason),
    )


@pytest.mark.parametrize(
    ("version", "said"), [((3, 13), None), ((3, 99), "device cpu here: this torch does not compile on Python 3.99")]
)
def test_python_that_torch_does_not_compile_on_is_named(
    version: tuple[int, int], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = type("Version", (tuple,), {"major": version[0], "minor": version[1]})(version)
    monkeypatch.setattr(sys, "version_info", info)
    monkeypatch.setattr("shutil.which", lambda name: name)  # nothing else keeps this machine from it
    monkeypatch.setattr(compiling, "_missing", compiling._missing.__wrapped__)
    assert compiling.obstacle(device="cpu", dtype=torch.float32, mask=None, backward=False) == said
