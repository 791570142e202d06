"""FlexAttention: what it is asked for, with code generated once, since that takes seconds, and what it refuses."""

from typing import Any

import pytest
import torch
from torch import Tensor

from attention import KERNELS, reference
from bench.observing.drift import hold_to_budget
from bench.suite.matrix import matrix
from bench.suite.naive import naive_attention

from .conftest import make, make_mask

FLEX = KERNELS["flex"]
needs_compiler = pytest.mark.skipif(
    (lacks := FLEX.capabilities.lacks(mask=None, causal=False, grouped=False, dtype=torch.float32, device="cpu"))
    is not None,
    reason=str(lacks),
)


def pretend_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attention.compiling._missing", lambda _: None)
    monkeypatch.setattr("attention.compiling.vector_bits", lambda: 256)


def hold(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Hold the output to the budget of ``bench.observing.drift``, and return it."""
    asked = {"mask": None, "causal": False} | options
    with torch.no_grad():  # the inputs may require gradients all the same
        got = FLEX(q, k, v, **asked)
        exact, naive = reference(q.double(), k.double(), v.double(), **asked), naive_attention(q, k, v, **asked)
    (error,) = hold_to_budget({"out": got}, {"out": exact}, {"out": naive})
    assert error.complaints == ()
    return got


@needs_compiler
def test_bool_mask_causal_window_and_groups_are_within_budget_blind_rows_zero_and_nan_as_documented() -> None:
    q, k, v = (t.detach() for t in make(queries=130, keys=149, kv_heads=2))  # more than a block of either
    options: dict[str, Any] = {"mask": make_mask("bool", 2, 1, 130, 149, blind=5), "causal": True, "window": 16}
    got = hold(q, k, v, **options)
    assert not got[:, :, 5].any()
    q[:, :, 4] = torch.nan
    assert FLEX(q, k, v, **options)[:, :, 4].isfinite().all()


@needs_compiler
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"sinks": torch.tensor([0.5] * 4)}], ids=str)
def test_a_feature_of_zeros_beside_q_and_k_changes_nothing(options: dict[str, Any]) -> None:
    with torch.compiler.set_stance("force_eager"):
        for size in (8, 16):
            hold(*make(keys=23 if "sinks" in options else 24, size=size), **options)


def test_a_cpu_without_avx2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attention.compiling._missing", lambda _: None)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    refusal = "device cpu here: PyTorch's FlexAttention needs AVX2, and uses DEFAULT on this CPU"
    with pytest.raises(NotImplementedError, match=rf"^kernel 'flex' does not support {refusal}$"):
        FLEX(*(t.detach() for t in make()))


def test_backward_on_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_to_compile(monkeypatch)
    with pytest.raises(NotImplementedError, match=r"^kernel 'flex' does not support a backward pass on cpu$"):
        FLEX(*make(), causal=True)


def test_double_precision_is_refused() -> None:
    q, k, v = (t.detach() for t in make(dtype=torch.float64))
    with pytest.raises(NotImplementedError, match=r"^kernel 'flex' does not support dtype torch.float64$"):
        FLEX(q, k, v)


def test_it_is_measured_forward_in_the_rows_of_what_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_to_compile(monkeypatch)
    cases = {case.id: reason for case, reason in matrix({"flex": FLEX}, {}, "pr", ("cpu",)).items()}
    assert {id_ for id_, reason in cases.items() if reason is None} == {
        "flex-b1h1t512d64-causal-fp32-cpu-fwd",
        "flex-b1h8kv2t64d64-boolmask-fp32-cpu-fwd",
        "flex-b1h4kv2t40k96d32v16scale0.3-causalfloatmask-fp32-cpu-fwd",
        "flex-b1h4kv2t40k96d32v16scale0.3-causalwindow16-fp32-cpu-fwd",
        "flex-b1h2t6k8d8-full-fp32-cpu-fwd",
        "flex-b1h4kv2t6k24d16-full-fp32-cpu-fwd",
        "flex-b1h2t6k40d8-full-fp32-cpu-fwd",
    }
    assert {reason for reason in cases.values() if reason} == {"flex does not support a backward pass on cpu"}
