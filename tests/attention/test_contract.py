"""Every registered kernel keeps the rules of the contract, or refuses by name, but where its docstring says otherwise.

Rules are tried without generating code: a kernel that compiles runs eagerly, and ``test_compiling.py`` asks the rest.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from math import inf, nan
from typing import Any

import pytest
import torch
from torch import Tensor

import attention
from attention import KERNELS, Kernel, reference
from bench.observing.drift import hold_to_budget
from bench.suite.cases import Shape
from bench.suite.contract import FAILS, HOLDS, REFUSED, Inputs, Rule, examine
from bench.suite.matrix import COMPILING, matrix
from bench.suite.oracle import oracle, yardstick
from bench.suite.rules import FAR, RULES, differentiate
from bench.suite.side import Side
from bench.suite.workload import bind, build

from .conftest import make, pretend_to_compile

# Their docstrings say that NaN and inf in v reach rows that do not see their key; so do products with a weight of zero.
SPREADING = {"flex", "sdpa", "sdpa_flash", "sdpa_math", "reference"}
HIDDEN_VALUES = {rule.name for rule in RULES if rule.name.startswith("a value ")}
INF_QUERIES_ZEROED = {"sdpa", "sdpa_flash", "decode"}  # sdpa's docstring: NaN or zero
MASKS, SCORING = {"a bool mask", "a float mask"}, {"a cap on scores", "sinks"}
REFUSES: dict[str, set[str]] = {
    "blockwise": set(),
    "compiled": {"a window"},
    "decode": {*MASKS, *SCORING, "a window", "a backward pass"},
    "flex": {"a backward pass on cpu"},
    "manual": {*MASKS, *SCORING, "a window", "causal attention"},
    "masked": set(),
    "sdpa": {*SCORING, "a window"},
    "sdpa_flash": {
        *SCORING,
        "a window",
        "values with a head size of their own",
    },
    "sdpa_math": {*SCORING, "a window"},
    "sliding_window": MASKS,
}
# Of ours more is asked: a window that hides every key from most queries.
OURS = [replace(rule, sizes=(*rule.sizes, "b1h2t80k9d64")) if rule.sizes is FAR else rule for rule in RULES]
# FlexAttention takes ten times as long as others where no code is generated; the others call what masked and sdpa call.
HALF_OF_SIZES = {"compiled", "flex", "sdpa_flash", "sdpa_math"}
ON_CPU = [name for name, kernel in KERNELS.items() if "cpu" in kernel.capabilities.devices]


def as_asked(name: str) -> Callable[..., Tensor]:
    """The kernel; one that must have a window gets a window that hides nothing, where it is asked for none."""
    kernel = KERNELS[name]
    if kernel.capabilities.windowless:
        return kernel
    return lambda *given, **options: kernel(*given, **{"window": 10**9} | options)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", ON_CPU)
def test_every_rule_holds_or_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_to_compile(monkeypatch)
    rules = [replace(rule, sizes=rule.sizes[::2]) for rule in OURS] if name in HALF_OF_SIZES else OURS
    with torch.compiler.set_stance("force_eager" if name in COMPILING else "default"):
        found = list(examine(as_asked(name), rules))
    failing = [finding for finding in found if finding.outcome == FAILS]
    if name in SPREADING:
        assert {finding.rule for finding in failing} <= HIDDEN_VALUES
        assert not any("1e+30" in finding.variant for finding in failing)
    else:
        assert failing == []
    refused = {finding.why for finding in found if finding.outcome == REFUSED}
    by_torch = {why for why in refused if why.startswith("PyTorch's flash backend refuses")}
    assert {why.removeprefix(f"kernel '{name}' does not support ") for why in refused - by_torch} == REFUSES[name]
    assert name == "sdpa_flash" or not by_torch  # what is empty, and a mask that is learned


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", [name for name in ON_CPU if "float" in KERNELS[name].capabilities.masks])
def test_a_float_mask_of_another_dtype_is_rounded_to_that_of_the_queries(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_to_compile(monkeypatch)
    x = Inputs.make(Shape.parse("b2h4kv2t17k33d64"), torch.float16, "cpu")
    mask = 10 * torch.randn(17, 33, generator=torch.Generator().manual_seed(0))
    with torch.compiler.set_stance("force_eager" if name in COMPILING else "default"):
        assert torch.equal(*(KERNELS[name](*x.tensors, mask=each) for each in (mask, mask.half())))


@pytest.mark.parametrize("name", ["decode", "sdpa"])
def test_budgets_are_kept_with_the_fused_backends_turned_off(name: str) -> None:
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        found = examine(
            KERNELS[name], [rule for rule in RULES if rule.name.endswith("are within the error budget")][:1]
        )
        assert FAILS not in {finding.outcome for finding in found}


@pytest.mark.parametrize("name", ["blockwise", "masked", "sliding_window"])
def test_what_is_not_finite_outside_of_a_window_reaches_neither_output_nor_gradient(name: str) -> None:
    (rule,) = (rule for rule in RULES if rule.name.startswith("a value outside of a window"))
    variants = [
        (str(value), {"value": value, "window": 2, "causal": c}) for value in (nan, inf, -inf) for c in (False, True)
    ]
    assert {finding.outcome for finding in examine(KERNELS[name], [replace(rule, variants=variants)])} == {HOLDS}


def test_the_oracle_keeps_the_rules_that_need_none() -> None:
    def rounded(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        return reference(q, k, v, **options).to(q.dtype)

    found = examine(rounded, [rule for rule in RULES if "budget" not in rule.name and rule.name not in HIDDEN_VALUES])
    assert [finding for finding in found if finding.outcome != HOLDS] == []


@pytest.mark.request_of(causal=(False, True), dtype=(torch.float32, torch.bfloat16, torch.float16))
def test_inf_in_a_query_makes_its_row_nan_or_zero_only_where_the_docstring_says_so(
    *, kernel: Kernel, causal: bool, dtype: torch.dtype
) -> None:
    for n_keys in (5, 16, 17, 32):  # PyTorch's fused kernel on CPU does otherwise with fewer than 16 keys
        q, k, v = (t.detach() for t in make(queries=5, keys=n_keys, dtype=dtype))
        k[..., 3] = k[..., 3].abs() * torch.tensor([1.0, -1.0]).repeat(n_keys)[:n_keys]  # scores of both infinities
        q[:, :, 4, 3] = torch.inf
        row = kernel(q, k, v, causal=causal)[:, :, 4]
        assert (row.isnan() | (row == 0) if kernel.name in INF_QUERIES_ZEROED else row.isnan()).all()


def all_zero(kernel: Callable[..., Tensor], x: Inputs, *, kind: str | None, **options: Any) -> Iterator[str]:
    out, *gradients = differentiate(kernel, x.tensors, x.upstream, mask=x.mask(kind), **options)
    if out.shape != (*x.q.shape[:3], x.v.shape[3]) or any(t.any() for t in (out, *gradients)):
        yield f"the output is {out} of {out.shape}, or a gradient is not zero"


NOTHING = Rule(
    "a size of zero gives an empty or zero result of the right shape",
    all_zero,
    [
        (f"{kind}, {causal}, {backward}", {"kind": kind, "causal": causal, "backward": backward})
        for kind, causal, backward in product((None, "bool", "float"), (False, True), (False, True))
    ],
)
SIZES = ["b0h4t5k7d16", "b2h0t5k7d16", "b2h4t0k7d16", "b2h4t0k0d16", "b2h4t5k7d16v0", "b2h4t5k0d16", "b2h4kv2t0k7d16"]


@pytest.mark.parametrize("name", ON_CPU)
def test_size_of_zero_gives_an_empty_or_zero_result_of_the_right_shape(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_to_compile(monkeypatch)
    with torch.compiler.set_stance("force_eager" if name in COMPILING else "default"):
        found = [f for size in SIZES for f in examine(as_asked(name), [replace(NOTHING, sizes=[size])])]
    assert [finding for finding in found if finding.outcome == FAILS] == []
    assert name == "sdpa_flash" or HOLDS in {finding.outcome for finding in found}  # that backend refuses them all


@pytest.mark.parametrize("name", ["blockwise", "masked"])
def test_gradients_of_scores_at_the_cap_are_as_accurate_as_the_yardstick_s(name: str) -> None:
    side, wanted = Side.of("head", attention), f"{name}-b1h2t24d64softcap50large-causal-fp32-cpu-fwdbwd"
    case = next(case for case in matrix(KERNELS, {}, "pr", ("cpu",)) if case.id == wanted)
    for draw in range(8):  # in a single one, the slope of the cap may be accurate by chance
        workload = build(case, {}, draw)
        exact, naive = oracle(workload), yardstick(workload)
        results = bind(workload, side).results()
        errors = hold_to_budget(results, exact, naive, looser=workload.looser)
        assert [error.complaints for error in errors if error.complaints] == []
