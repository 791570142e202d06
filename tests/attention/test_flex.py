"""FlexAttention: what it is asked for, with code generated once, since that takes seconds, and what it refuses."""

from typing import Any

import pytest
import torch

from attention import KERNELS
from bench.suite.cases import Shape
from bench.suite.contract import Inputs
from bench.suite.matrix import matrix

from .conftest import hold_to_rule, make, pretend_to_compile

FLEX = KERNELS["flex"]
BUDGET = "output is within the error budget"


def test_bool_mask_causal_window_and_groups_are_within_budget_blind_rows_zero_and_nan_as_documented() -> None:
    size, hidden = "b2h4kv2t130k149d16", "every key from one query"  # more than a block of queries and of keys
    hold_to_rule(FLEX, BUDGET, size, kind="bool", hidden=hidden, causal=True, window=16)
    x = Inputs.make(Shape.parse(size), torch.float32, "cpu")
    x.q[:, :, 4] = torch.nan
    with torch.no_grad():  # or else code is generated once more
        out = FLEX(*x.tensors, mask=x.mask("bool", hidden), causal=True, window=16)
    assert not out[:, :, 0].any()
    assert out[:, :, 4].isfinite().all()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("options", [{"keys": 24}, {"keys": 24, "scale": 0.3}, {"keys": 23, "sinks": True}], ids=str)
def test_a_feature_of_zeros_beside_q_and_k_changes_nothing(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_to_compile(monkeypatch)
    asked = dict(options)
    keys = asked.pop("keys")
    with torch.compiler.set_stance("force_eager"):
        for size in (8, 16):
            hold_to_rule(FLEX, BUDGET, f"b2h4t33k{keys}d{size}", **asked)


def test_a_cpu_without_avx2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attention.compiling._missing", lambda _: None)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    refusal = "device cpu here: PyTorch's FlexAttention needs AVX2, and uses DEFAULT on this CPU"
    with pytest.raises(NotImplementedError, match=rf"^kernel 'flex' does not support {refusal}$"):
        FLEX(*(t.detach() for t in make()))


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
