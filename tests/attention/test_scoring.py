"""Caps on scores and sinks: what they mean, and who takes them."""

from typing import Any

import pytest
import torch
from torch import Tensor

import attention
from attention import KERNELS, Kernel, reference
from attention.registry import OPTIONS
from bench.observing.drift import hold_to_budget
from bench.suite.matrix import COMPILING, matrix
from bench.suite.oracle import oracle, yardstick
from bench.suite.side import Side
from bench.suite.workload import bind, build

CLAIMS = [kernel for kernel in KERNELS.values() if kernel.capabilities.softcap]
EAGER = [kernel for kernel in CLAIMS if kernel.name not in COMPILING]  # the others take seconds
NEAR = {"window": 5}  # for the kernel that does nothing without one


def qkv(heads: int = 4, kv_heads: int = 2, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((heads, 6), (kv_heads, 9), (kv_heads, 9))
    q, k, v = (torch.randn(2, h, t, 8, generator=generator).to(dtype) for h, t in sizes)
    return q, k, v


def options(kernel: Kernel, **more: object) -> dict[str, object]:
    return more if kernel.capabilities.windowless else NEAR | more


def test_these_kernels_take_both() -> None:
    names = [kernel.name for kernel in CLAIMS]
    assert names == ["blockwise", "compiled", "flex", "masked", "sliding_window"]
    assert all(kernel.capabilities.sinks for kernel in CLAIMS)


@pytest.mark.parametrize("name", sorted(set(KERNELS) - {kernel.name for kernel in CLAIMS} - {"sdpa_cudnn"}))
@pytest.mark.parametrize("option", ["softcap", "sinks"])
def test_a_kernel_that_does_not_claim_an_option_refuses_it_by_name(name: str, option: str) -> None:
    q, _, _ = qkv()
    asked = {"softcap": 2.0} if option == "softcap" else {"sinks": torch.zeros(4)}
    with pytest.raises(NotImplementedError, match=f"kernel {name!r} does not support {OPTIONS[option]}"):
        KERNELS[name](q, q, q, **asked)


@pytest.mark.parametrize("softcap", [0, -1.0, float("inf"), float("nan"), "2"])
def test_a_cap_that_is_no_number_above_zero_is_refused(softcap: float) -> None:
    with pytest.raises(ValueError, match=r"softcap must be a number above zero, or None for no cap; saw"):
        KERNELS["masked"](*qkv(), softcap=softcap)


@pytest.mark.parametrize("sinks", [torch.zeros(2), torch.zeros(4, 1), torch.zeros(4, dtype=torch.long)])
def test_sinks_that_are_not_one_number_a_head_are_refused(sinks: Tensor) -> None:
    with pytest.raises(ValueError, match=r"sinks must be floating, one for each of q's 4 heads, on cpu; saw"):
        KERNELS["masked"](*qkv(), sinks=sinks)


@pytest.mark.parametrize("attend", [*EAGER, reference], ids=lambda a: getattr(a, "name", "reference"))
def test_a_cap_far_above_the_scores_changes_nothing_and_a_tiny_one_makes_weights_even(attend: Kernel) -> None:
    q, k, v = qkv()
    given = {} if attend is reference else options(attend, causal=False)
    plain = attend(q, k, v, **given)  # type: ignore[arg-type]
    torch.testing.assert_close(attend(q, k, v, softcap=1e4, **given), plain, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]
    even = attend(q, k, v, softcap=1e-6, **given)  # type: ignore[arg-type]
    seen = attend(torch.zeros_like(q), k, v, **given)  # type: ignore[arg-type]
    torch.testing.assert_close(even, seen, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attend", [*EAGER, reference], ids=lambda a: getattr(a, "name", "reference"))
def test_a_sink_takes_its_weight_and_gives_nothing(attend: Kernel) -> None:
    q, k, v = qkv()
    given = {} if attend is reference else options(attend)
    plain = attend(q, k, v, **given)  # type: ignore[arg-type]
    none = attend(q, k, v, sinks=torch.full((4,), -torch.inf), **given)  # type: ignore[arg-type]
    torch.testing.assert_close(none, plain, rtol=1e-5, atol=1e-6)
    all_ = attend(q, k, v, sinks=torch.full((4,), 200.0), **given)  # type: ignore[arg-type]
    assert float(all_.abs().max()) < 1e-6
    # With scores of zero, a sink of zero is one key more, whose value is zero: n / (n + 1) is left.
    keys = 9 if attend is reference or attend.capabilities.windowless else None
    if keys:
        flat = torch.zeros_like(q)
        left = attend(flat, k, v, sinks=torch.zeros(4), **given)  # type: ignore[arg-type]
        torch.testing.assert_close(left, attend(flat, k, v, **given) * keys / (keys + 1), rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("attend", [k for k in CLAIMS if k.name != "sliding_window"], ids=lambda k: k.name)
def test_the_cap_comes_before_the_mask_so_that_hidden_keys_stay_hidden(attend: Kernel) -> None:
    asked: Any = {"mask": "float", "causal": False, "grouped": True, "dtype": torch.float32, "device": "cpu"}
    if (lacks := attend.capabilities.lacks(**asked, softcap=1.5)) is not None:
        pytest.skip(f"{attend.name} does not support {lacks}")
    q, k, v = qkv()
    mask = torch.zeros(6, 9).index_fill(1, torch.tensor([3]), -torch.inf)
    without = [i for i in range(9) if i != 3]
    got = attend(q, k, v, mask=mask, softcap=1.5)
    torch.testing.assert_close(got, attend(q, k[:, :, without], v[:, :, without], softcap=1.5), rtol=1e-5, atol=1e-6)
    bias = torch.zeros(6, 9).index_fill(1, torch.tensor([3]), 50.0)  # far beyond the cap: added after it
    torch.testing.assert_close(
        attend(q, k, v, mask=bias, softcap=1.5),
        v[:, :, 3:4].repeat_interleave(2, 1).expand(2, 4, 6, 8),
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("attend", [k for k in EAGER if k.name != "sliding_window"], ids=lambda k: k.name)
def test_a_row_that_sees_no_key_is_zero_with_sinks_too_and_moves_no_sink(attend: Kernel) -> None:
    q, k, v = qkv()
    sinks = torch.zeros(4, requires_grad=True)
    mask = torch.zeros(6, 9, dtype=torch.bool)
    out = attend(q, k, v, mask=mask, sinks=sinks, softcap=2.0)
    assert not out.any()
    (gradient,) = torch.autograd.grad(out.sum(), sinks)
    assert not gradient.any()


def test_a_gradient_of_sinks_alone_is_asked_for_and_given() -> None:
    q, k, v = qkv(dtype=torch.float64)
    sinks = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for name in ("masked", "blockwise"):

        def attend(s: Tensor, name: str = name) -> Tensor:
            return KERNELS[name](q, k, v, causal=True, sinks=s, softcap=3.0)

        assert torch.autograd.gradcheck(attend, (sinks,))


@pytest.mark.parametrize("name", [kernel.name for kernel in EAGER if kernel.capabilities.windowless])
def test_gradients_of_scores_at_the_cap_are_as_accurate_as_the_yardstick_s(name: str) -> None:
    side, wanted = Side.of("head", attention), f"{name}-b1h2t24d64softcap50large-causal-fp32-cpu-fwdbwd"
    case = next(case for case in matrix(KERNELS, {}, "pr", ("cpu",)) if case.id == wanted)
    for draw in range(8):  # in a single one, the slope of the cap may be accurate by chance
        workload = build(case, {}, draw)
        exact, naive = oracle(workload), yardstick(workload)
        results = bind(workload, side).results()
        errors = hold_to_budget(results, exact, naive, looser=workload.looser)
        assert [error.complaints for error in errors if error.complaints] == []
