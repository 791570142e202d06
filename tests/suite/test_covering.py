"""The covering arrays: every two words of two axes meet on each kernel, and nothing that it does not support."""

from itertools import combinations, product

import pytest
import torch

import attention
from attention.registry import Capabilities, Kernel
from bench.suite import covering
from bench.suite.cases import Case, lacks
from bench.suite.covering import KERNEL_AXES, MODULE_AXES, Covering
from bench.suite.matrix import matrix

KERNELS = attention.KERNELS
HERE = [name for name, kernel in KERNELS.items() if "cpu" in kernel.capabilities.devices]


def cases(name: str, device: str = "cpu") -> list[Case]:
    return list(Covering("smoke", "").cases([(name, KERNELS.get(name))], (device,)))


def words(case: Case) -> set[str]:
    """Return the words of a case by which the axes of kernels differ; a plain word of a shape is not written."""
    shape = str(case.shape)
    found = {word for axis, all_ in KERNEL_AXES.items() if axis not in ("mask", "dtype", "direction") for word in all_}
    tokens = f"t{case.shape.queries}" + ("" if case.shape.keys == case.shape.queries else f"k{case.shape.keys}")
    heads = f"h{case.shape.heads}" + ("" if case.shape.heads == case.shape.kv_heads else f"kv{case.shape.kv_heads}")
    exact = {tokens, heads, f"b{case.shape.batch}", f"d{case.shape.head_size}", case.mask, case.dtype, case.direction}
    return (
        exact
        | {word for word in found if word and word[:1] not in "bhtd" and word in shape}
        | {word for word in KERNEL_AXES["layout"] if word and word == case.shape.layout}
    )


@pytest.mark.parametrize("name", HERE)
def test_every_two_words_that_a_kernel_supports_meet_in_a_case(name: str) -> None:
    chosen = cases(name)
    assert len(chosen) == len({case.id for case in chosen})
    assert [lacks(KERNELS[name], case) for case in chosen] == [None] * len(chosen)
    axes = covering._supported(KERNELS[name], "cpu", KERNEL_AXES)
    met = [words(case) for case in chosen]
    for (_, some), (_, others) in combinations(axes.items(), 2):
        for one, other in product(filter(None, some), filter(None, others)):
            assert any({one, other} <= case for case in met), (one, other)


def test_head_sizes_lengths_and_groups_that_reports_were_about_are_among_them() -> None:
    seen = set().union(*map(words, cases("masked")))
    wanted = "d33 d128 d160 d256 b3 h3 h6kv2 h8kv1 h6kv3 t1k257 t3k1100 values300 fp16 bf16 fwdbwd causalwindow40"
    assert {*wanted.split()} <= seen
    assert {axis for axis in MODULE_AXES if axis not in KERNEL_AXES} == set()
    assert {case.shape.head_size for case in cases("mha")} == {8, 20, 32, 72}


def test_a_new_word_is_in_the_cases() -> None:
    axes = {**KERNEL_AXES, "layout": (*KERNEL_AXES["layout"], "expanded")}
    found = Covering("smoke", "", tuple(axes.items())).cases([("masked", KERNELS["masked"])], ("cpu",))
    assert any(case.shape.layout == "expanded" for case in found)


def test_a_kernel_that_takes_half_precision_alone_has_an_array_of_it() -> None:
    half = Capabilities(masks=frozenset(), dtypes=frozenset({torch.bfloat16, torch.float16}), window=True)
    chosen = matrix({"half": Kernel("half", KERNELS["masked"].function, half)}, {}, "smoke", ("cpu",))
    runs = [case for case, why in chosen.items() if why is None and not case.watched]
    assert {case.dtype for case in runs} == {"bf16", "fp16"}
    assert {"window7", "causalwindow40", "causal"} <= {case.mask for case in runs}
    assert {case.shape.heads // case.shape.kv_heads for case in runs} == {1, 2, 3, 8}
    assert len(runs) > 35


def test_a_device_that_a_kernel_does_not_run_on_has_no_case() -> None:
    assert cases("sdpa_cudnn") == []
    assert {case.device for case in cases("sdpa_cudnn", "cuda")} == {"cuda"}
